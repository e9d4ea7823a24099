package headerbundle_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/block/headerbundle"
	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// addBlock uploads a block of some series without chunks.
func addBlock(t testing.TB, bkt bucket.Bucket, n int) headerbundle.Block {
	t.Helper()
	m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(n), nil), MinTime: int64(n), MaxTime: int64(n) + 1}}
	m.Thanos.Labels = map[string]string{"a": "b"}
	var series []blocktest.Series
	for i := range 20 + n {
		series = append(series, blocktest.Series{Labels: labels.FromStrings("n", fmt.Sprint(i))})
	}
	dir := filepath.Join(t.TempDir(), m.ULID.String())
	require.NoError(t, blocktest.Write(t.Context(), dir, m, series))
	up, err := block.Upload(t.Context(), bkt, dir, block.UploadConfig{})
	require.NoError(t, err)
	for _, f := range up.Thanos.Files {
		if f.RelPath == block.IndexFile {
			return headerbundle.Block{Meta: up, IndexSize: f.SizeBytes}
		}
	}
	t.Fatal("no index")
	return headerbundle.Block{}
}

func bundles(t testing.TB, bkt bucket.Bucket) (names []string) {
	t.Helper()
	require.NoError(t, bkt.List(t.Context(), "hindsight/index-headers-v1", func(o bucket.Object) error {
		names = append(names, o.Name)
		return nil
	}))
	return names
}

// found reads all headers of all bundles.
func found(t testing.TB, bkt bucket.Bucket, blocks map[ulid.ULID]headerbundle.Block) (got map[ulid.ULID][]byte, err error) {
	t.Helper()
	r := headerbundle.NewReader(bkt)
	got = map[ulid.ULID][]byte{}
	err = r.Sync(t.Context())
	for id := range blocks {
		if ferr := r.Fetch(t.Context(), id, func(id ulid.ULID, h *indexheader.Header) { got[id] = h.Bytes() }); ferr != nil {
			err = ferr
		}
	}
	return got, err
}

// TestWriter_KeepsBundlesFewAndUseful adds and removes blocks: all have a header, and
// the garbage is bounded. A second writer works on the same bucket in turn.
func TestWriter_KeepsBundlesFewAndUseful(t *testing.T) {
	bkt := bucket.NewMemory()
	writers := []*headerbundle.Writer{headerbundle.NewWriter(bkt), headerbundle.NewWriter(bkt)}
	blocks := map[ulid.ULID]headerbundle.Block{}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		b := addBlock(t, bkt, n+1)
		blocks[b.Meta.ULID] = b
		if n%10 == 9 {
			for _, id := range slices.SortedFunc(maps.Keys(blocks), ulid.ULID.Compare)[:7] {
				delete(blocks, id)
			}
		}
		require.NoError(t, writers[rng.IntN(2)].Update(t.Context(), blocks))
		got, err := found(t, bkt, blocks)
		require.NoError(t, err)
		require.LessOrEqual(t, len(bundles(t, bkt)), 10)
		for id, b := range blocks {
			h, err := indexheader.Fetch(t.Context(), bkt, block.Path(id, block.IndexFile), b.IndexSize, nil)
			require.NoError(t, err)
			require.Equal(t, h.Bytes(), got[id], "block %s", id)
		}
		require.LessOrEqual(t, len(got), 2*len(blocks)+1)
	}
	before := bundles(t, bkt)
	for range 3 {
		require.NoError(t, writers[0].Update(t.Context(), blocks))
		require.Equal(t, before, bundles(t, bkt), "nothing to do")
	}
	require.NoError(t, writers[0].Update(t.Context(), nil))
	require.Empty(t, bundles(t, bkt))
}

// TestReader_RefusesDamagedBundles changes a bundle in many ways: a header is the right
// one or absent, and the writer replaces the bundle.
func TestReader_RefusesDamagedBundles(t *testing.T) {
	bkt := bucket.NewMemory()
	blocks := map[ulid.ULID]headerbundle.Block{}
	for n := range 4 {
		b := addBlock(t, bkt, n+1)
		blocks[b.Meta.ULID] = b
	}
	require.NoError(t, headerbundle.NewWriter(bkt).Update(t.Context(), blocks))
	want, err := found(t, bkt, blocks)
	require.NoError(t, err)
	require.Len(t, want, 4)
	name := bundles(t, bkt)[0]
	orig, err := bucket.ReadAll(t.Context(), bkt, name, 1<<20)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 500 {
		b := slices.Clone(orig)
		switch i % 10 {
		case 0:
			b = b[:rng.IntN(len(b))]
		default:
			b[rng.IntN(min(len(b), 1<<(1+rng.IntN(14))))] ^= 1 << rng.IntN(8)
		}
		require.NoError(t, bkt.Upload(t.Context(), name, bytes.NewReader(b), int64(len(b))))
		got, err := found(t, bkt, blocks)
		for id, h := range got {
			require.Equal(t, want[id], h)
		}
		if len(got) < len(want) && !bytes.Equal(b, orig) {
			require.Error(t, err)
		}
	}
	require.NoError(t, bkt.Upload(context.Background(), name, bytes.NewReader([]byte("garbage")), 7))
	_, err = found(t, bkt, blocks)
	require.Error(t, err)
}
