package store

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/headerbundle"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// withBundle writes the bundle of all blocks of a view.
func withBundle(t testing.TB, bkt bucket.Bucket, g *Gateway) {
	t.Helper()
	blocks := map[ulid.ULID]headerbundle.Block{}
	for id, m := range g.blocks.view.Metas {
		blocks[id] = headerbundle.Block{Meta: m, IndexSize: g.blocks.view.Sizes[id][block.IndexFile]}
	}
	require.NoError(t, headerbundle.NewWriter(bkt).Update(t.Context(), blocks))
}

// TestGateway_ReadsHeadersFromBundle starts with an empty disk: the headers of all blocks
// cost one request, and a damaged bundle costs no answer.
func TestGateway_ReadsHeadersFromBundle(t *testing.T) {
	bkt := bucket.NewMemory()
	s := nodeBlocks(t, bkt, 6)
	withBundle(t, bkt, newGateway(t, bkt))
	cb := &countingBucket{Reader: bkt}
	g := newGateway(t, cb)
	index, other, directory := cb.take()
	require.Equal(t, []int64{0, 1}, []int64{index, other}, "the directory of the bundle")
	r := request(s, matcher(labels.MatchEqual, "__name__", "node_cpu_seconds_total"),
		matcher(labels.MatchEqual, "instance", "10.1.0.7:9100"), matcher(labels.MatchEqual, "mode", "user"))
	series, _, st := drain(t, g, t.Context(), r)
	require.Equal(t, 8, series)
	index, other, bytes := cb.take()
	t.Logf("%d GETs of indexes, %d others, %d bytes, %d of them from blocks", index, other, directory+bytes, st.BytesFetched)
	require.LessOrEqual(t, index, int64(2*s.blocks), "postings, and series")
	require.LessOrEqual(t, other, int64(8*s.blocks+1), "scattered chunks, and one bundle")

	// A header of another index: the block's own index is read instead, and the second
	// answer is complete.
	var names []string
	require.NoError(t, bkt.List(t.Context(), "hindsight/index-headers-v1", func(o bucket.Object) error {
		names = append(names, o.Name)
		return nil
	}))
	for _, name := range names {
		b := object(t, bkt, name)
		b[len(b)-100] ^= 1
		put(t, bkt, name, b)
	}
	series, _, _ = drain(t, newGateway(t, bkt), t.Context(), r)
	require.Equal(t, 8, series)
}

// TestGateway_DistrustsHeaderOfAnotherIndex puts the header of a block under the name of
// another one with an index of the same size: the first answer has a warning, and the
// second one is right.
func TestGateway_DistrustsHeaderOfAnotherIndex(t *testing.T) {
	bkt := bucket.NewMemory()
	s := shape{blocks: 1, metrics: 40, instances: 20, codes: 1, samples: 2}
	s.fill(t, bkt)
	r := request(s, matcher(labels.MatchEqual, "__name__", "metric_011_total"))
	dir := t.TempDir()
	g := newGateway(t, bkt, "--data-dir="+dir)
	want, err := text(g.Select(t.Context(), r))
	require.NoError(t, err)
	g.close()

	id := ulid.MustNew(1, nil)
	other := bucket.NewMemory()
	o := shape{blocks: 1, metrics: 20, instances: 40, codes: 1, samples: 2}
	o.fill(t, other)
	header := newGateway(t, other)
	_, err = text(header.Select(t.Context(), r))
	require.NoError(t, err)
	size := int64(len(object(t, bkt, id.String()+"/index")))
	forged, err := os.ReadFile(filepath.Join(header.env.HeaderDir, id.String()))
	require.NoError(t, err)
	le := binary.LittleEndian
	le.PutUint64(forged[8:], uint64(size)) // as if its index had the same size
	body := forged[:len(forged)-4]
	le.PutUint32(forged[len(body):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	require.NoError(t, os.WriteFile(filepath.Join(g.env.HeaderDir, id.String()), forged, 0o666))

	g = newGateway(t, bkt, "--data-dir="+dir)
	set := g.Select(t.Context(), r)
	_, err = text(set)
	require.NoError(t, err)
	require.NotEmpty(t, set.Warnings())
	require.NoError(t, set.Close())
	got, err := text(g.Select(t.Context(), r))
	require.NoError(t, err)
	require.Equal(t, want, got)
}
