package blockstat_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/blockstat"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// fill returns a bucket with a block of many series of different lengths.
func fill(t *testing.T) *bucket.Memory {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	text := "block a range=0h..2h labels={cluster=\"eu\",tenant_id=\"t1\"} level=1\n"
	for i := range 300 {
		text += fmt.Sprintf("  m%d{job=\"j%d\",pod=\"p%d\"} 0h..%dm/15s:1+%d\n", i%7, i%3, i, 1+rng.IntN(119), rng.IntN(9))
	}
	b := bucket.NewMemory()
	blocktest.Fill(t, b, text)
	return b
}

// oracle reads the index with the reader of Prometheus, and the size of each chunk from
// the segments.
func oracle(t *testing.T, b *bucket.Memory, key func(labels.Labels) string) map[string]*blockstat.Row {
	t.Helper()
	dir := t.TempDir()
	_, err := block.Download(t.Context(), b, blocktest.ID("a"), dir+"/b", block.DownloadConfig{})
	require.NoError(t, err)
	r, err := index.NewFileReader(dir+"/b/index", index.DecodePostingsRaw)
	require.NoError(t, err)
	defer r.Close()
	cr, err := chunks.NewDirReader(dir+"/b/chunks", nil)
	require.NoError(t, err)
	defer cr.Close()
	out := map[string]*blockstat.Row{}
	name, value := index.AllPostingsKey()
	p, err := r.Postings(t.Context(), name, value)
	require.NoError(t, err)
	var builder labels.ScratchBuilder
	var chks []chunks.Meta
	for p.Next() {
		require.NoError(t, r.Series(p.At(), &builder, &chks))
		row := out[key(builder.Labels())]
		if row == nil {
			row = &blockstat.Row{}
			out[key(builder.Labels())] = row
		}
		row.Series++
		for _, c := range chks {
			chk, _, err := cr.ChunkOrIterable(c)
			require.NoError(t, err)
			row.Chunks++
			n := int64(len(chk.Bytes()))
			// The length is a varint; encoding and checksum follow.
			row.ChunkBytes += n + 1 + 4 + 1
			if n >= 128 {
				row.ChunkBytes++
			}
		}
	}
	return out
}

func TestReport_AgreesWithIndexAndSegments(t *testing.T) {
	b := fill(t)
	m, sizes, err := blockstat.FindBlock(t.Context(), b, blocktest.ID("a"))
	require.NoError(t, err)
	r := blockstat.New(blockstat.Config{Metrics: true, Labels: true, Pairs: true, TenantLabel: "tenant_id"})
	require.NoError(t, r.Add(t.Context(), b, m, sizes))
	byKind := map[string]map[string]blockstat.Row{}
	for _, row := range r.Rows(0) {
		if byKind[row.By] == nil {
			byKind[row.By] = map[string]blockstat.Row{}
		}
		byKind[row.By][row.Name] = row
	}
	for by, key := range map[string]func(labels.Labels) string{
		blockstat.ByMetric: func(l labels.Labels) string { return l.Get("__name__") },
		"label_value":      func(l labels.Labels) string { return "job=" + l.Get("job") },
	} {
		want := oracle(t, b, key)
		for name, w := range want {
			got := byKind[by][name]
			require.Equal(t, []any{w.Series, w.Chunks, w.ChunkBytes}, []any{got.Series, got.Chunks, got.ChunkBytes}, name)
		}
	}
	require.Len(t, byKind[blockstat.ByMetric], 7)
	total := byKind["total"][""]
	require.EqualValues(t, 300, total.Series)
	require.Equal(t, m.Stats.NumSamples, total.Samples)
	tenant := byKind[blockstat.ByTenant]["t1"]
	require.Equal(t, []any{total.Series, total.Samples, total.ChunkBytes}, []any{tenant.Series, tenant.Samples, tenant.ChunkBytes})
	require.EqualValues(t, 300, byKind[blockstat.ByLabel]["pod"].Values)
	require.EqualValues(t, 3, byKind[blockstat.ByLabel]["job"].Values)
	require.Greater(t, byKind[blockstat.ByLabel]["pod"].IndexBytes, byKind[blockstat.ByLabel]["job"].IndexBytes)
	require.InDelta(t, 150, total.Churn, 30, "series last half of the block on average")

	few := r.Rows(2)
	var sum, rest uint64
	for _, row := range few {
		if row.By == blockstat.ByMetric {
			sum += row.Series
			if row.Name == "(others)" {
				rest = row.Series
			}
		}
	}
	require.EqualValues(t, 300, sum)
	require.Positive(t, rest)
}

// Rows by tenant need no index, so that a bucket with any indexes is quick.
func TestReport_TenantsNeedNoIndex(t *testing.T) {
	b := fill(t)
	m, sizes, err := blockstat.FindBlock(t.Context(), b, blocktest.ID("a"))
	require.NoError(t, err)
	require.NoError(t, b.Delete(t.Context(), block.Path(m.ULID, block.IndexFile)))
	r := blockstat.New(blockstat.Config{TenantLabel: "tenant_id"})
	require.NoError(t, r.Add(t.Context(), b, m, sizes))
	require.EqualValues(t, 300, r.Rows(0)[1].Series)
}

func TestReport_DamagedIndexesAreErrors(t *testing.T) {
	b := fill(t)
	m, sizes, err := blockstat.FindBlock(t.Context(), b, blocktest.ID("a"))
	require.NoError(t, err)
	name := block.Path(m.ULID, block.IndexFile)
	good, err := bucket.ReadAll(t.Context(), b, name, 1<<30)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	failed := 0
	for range 100 {
		bad := append([]byte(nil), good...)
		bad[rng.IntN(len(bad))] ^= byte(1 + rng.IntN(255))
		require.NoError(t, b.Upload(t.Context(), name, bytes.NewReader(bad), int64(len(bad))))
		r := blockstat.New(blockstat.Config{Metrics: true})
		if err := r.Add(t.Context(), b, m, sizes); err != nil {
			failed++
			require.Zero(t, r.Rows(0)[0].Series)
		}
	}
	require.Greater(t, failed, 50, "checksums find damage of what is read")
	delete(sizes, "chunks/000001")
	require.NoError(t, b.Upload(t.Context(), name, bytes.NewReader(good), int64(len(good))))
	require.ErrorContains(t, blockstat.New(blockstat.Config{Metrics: true}).Add(t.Context(), b, m, sizes), "segment 1 of its chunks is not in the bucket")
}

// An index whose symbols are long must not make the tables long.
func TestReport_ClipsLongNames(t *testing.T) {
	b := bucket.NewMemory()
	blocktest.Fill(t, b, "block a range=0h..2h labels={a=\"b\"}\n  m{l=\""+strings.Repeat("x", 5000)+"\"} 0h..2h/1m:1+1\n")
	m, sizes, err := blockstat.FindBlock(t.Context(), b, blocktest.ID("a"))
	require.NoError(t, err)
	r := blockstat.New(blockstat.Config{Pairs: true})
	require.NoError(t, r.Add(t.Context(), b, m, sizes))
	for _, row := range r.Rows(0) {
		require.Less(t, len(row.Name), 1100)
	}
}

// withoutSizes is a bucket whose listing has no sizes, as that of S3.
type withoutSizes struct{ bucket.Bucket }

func (b withoutSizes) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	return b.Bucket.List(ctx, dir, func(o bucket.Object) error {
		o.Size = -1
		return f(o)
	})
}

// TestFindBlock_SizesThatTheListingLacks looks at the objects themselves, so that a block is
// compared with its meta.json, and its bytes are counted, on S3 as well.
func TestFindBlock_SizesThatTheListingLacks(t *testing.T) {
	b := fill(t)
	m, want, err := blockstat.FindBlock(t.Context(), b, blocktest.ID("a"))
	require.NoError(t, err)
	_, sizes, err := blockstat.FindBlock(t.Context(), withoutSizes{b}, blocktest.ID("a"))
	require.NoError(t, err)
	require.Equal(t, want, sizes)
	r := blockstat.New(blockstat.Config{})
	require.NoError(t, r.Add(t.Context(), b, m, sizes))
	require.Greater(t, r.Rows(0)[0].ChunkBytes, int64(1000))
}
