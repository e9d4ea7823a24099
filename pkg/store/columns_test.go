package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// counterOf is the value of a counter of a gateway.
func counterOf(t testing.TB, g *Gateway, name string) float64 {
	t.Helper()
	families, err := g.deps.Registerer.(prometheus.Gatherer).Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetCounter().GetValue()
		}
	}
	require.Fail(t, "no metric "+name)
	return 0
}

// decoded reads a set as a reader that copies: labels, and samples with the bits of their
// values. It counts the chunks, and those that are columns.
func decoded(set storeapi.SeriesSet) (text string, chunks, columns int, err error) {
	var out bytes.Buffer
	for set.Next() {
		s := set.At()
		fmt.Fprintf(&out, "%s\n", s.Labels)
		for _, c := range s.Chunks {
			chunks++
			if c.Raw.Encoding == columnchunk.Encoding {
				columns++
			}
			it := aggr.DataIterator(c.Raw)
			for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
				if typ != chunkenc.ValFloat {
					t, h := it.AtFloatHistogram(nil)
					fmt.Fprintf(&out, "%d %s\n", t, h)
					continue
				}
				t, v := it.At()
				var b [16]byte
				out.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b[:0], uint64(t)), math.Float64bits(v)))
			}
			if it.Err() != nil {
				return "", 0, 0, it.Err()
			}
		}
	}
	return out.String(), chunks, columns, set.Err()
}

// Requests that read columns get the same samples while others read, and keep, the same
// blocks. The build tag hindsight_poison makes the test strict.
func TestSelect_ColumnsHaveTheSamples(t *testing.T) {
	s := shape{blocks: 3, metrics: 3, instances: 20, codes: 2, samples: 480}
	eachRead(t, rand.New(rand.NewPCG(13, 14)), s, func(g *Gateway, r *storeapi.Request, _ string) {
		set := g.Select(t.Context(), r)
		want, _, none, err := decoded(set)
		require.NoError(t, err)
		require.NoError(t, set.Close())
		require.Zero(t, none)
		var last [2]int
		for range 2 * 4 {
			var wg sync.WaitGroup
			for k := range last {
				wg.Go(func() {
					columns := *r
					columns.Columns = true
					set := g.Select(t.Context(), &columns)
					set.(storeapi.RecyclingSet).Recycle()
					got, chunks, some, err := decoded(set)
					if err != nil || got != want {
						t.Errorf("%s without %v: other samples with %d columns (%v)", r.Matchers, r.WithoutReplicaLabels, some, err)
					}
					if last[k] = some; chunks < some {
						t.Error("more columns than chunks")
					}
					if err := set.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		require.Greater(t, last[0], 100)
	})
}

// The first request reads from the bucket, and encodes nothing; each of the following ones
// encodes a part.
func TestSelect_KeepsColumnsOfDataThatIsReadAgain(t *testing.T) {
	bkt := bucket.NewMemory()
	shape{blocks: 1, metrics: 12, instances: 60, codes: 2, samples: 480}.fill(t, bkt)
	g := newGateway(t, bkt)
	r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Columns: true, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "__name__", ".+")}}
	var share []float64
	for range 7 {
		_, chunks, columns, err := decoded(g.Select(t.Context(), r))
		require.NoError(t, err)
		share = append(share, float64(columns)/float64(chunks))
	}
	require.Equal(t, []float64{0, 0}, share[:2], "read from the bucket, and read first")
	require.InDelta(t, 0.25, share[2], 0.25)
	require.Less(t, share[3], 1.0)
	require.Equal(t, 1.0, share[6])
	require.Zero(t, g.budget.Used())

	for _, b := range g.blocks.byID {
		g.env.Forget(b.Meta().ULID)
	}
	_, _, columns, err := decoded(g.Select(t.Context(), r))
	require.NoError(t, err)
	require.Zero(t, columns)
}

// A request may read as many bytes of blocks whether they are kept as columns or not.
func TestSelect_ColumnsCountAsTheirPages(t *testing.T) {
	bkt := bucket.NewMemory()
	shape{blocks: 1, metrics: 1, instances: 60, codes: 2, samples: 480}.fill(t, bkt)
	g := newGateway(t, bkt, "--store.grpc.downloaded-bytes-limit=50KB")
	r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Columns: true, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "__name__", ".+")}}
	for range 8 {
		_, _, _, err := decoded(g.Select(t.Context(), r))
		require.ErrorContains(t, err, "--store.grpc.downloaded-bytes-limit")
	}
	require.Zero(t, g.budget.Used())
}

// Without a page cache on disk there are no columns.
func TestSelect_WithoutColumns(t *testing.T) {
	for _, flag := range []string{"--store.column-cache-size=0", "--store.disk-cache-size=0"} {
		bkt := bucket.NewMemory()
		shape{blocks: 1, metrics: 1, instances: 10, codes: 2, samples: 480}.fill(t, bkt)
		g := newGateway(t, bkt, flag)
		r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Columns: true, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "__name__", ".+")}}
		for range 8 {
			_, chunks, columns, err := decoded(g.Select(t.Context(), r))
			require.NoError(t, err)
			require.Positive(t, chunks)
			require.Zero(t, columns)
		}
	}
	_, err := New(Config{DataDir: t.TempDir(), DiskCacheSize: 1 << 30, ColumnCacheSize: 1 << 20, MaxConcurrency: 1}, Deps{Bucket: bucket.NewMemory()})
	require.ErrorContains(t, err, "--store.column-cache-size")
}
