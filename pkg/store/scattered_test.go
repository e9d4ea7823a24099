package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// nodeBlocks puts blocks of node_cpu_seconds_total of 60 instances with 8 CPUs and 8
// modes into the bucket, with sizes of files in meta.json.
func nodeBlocks(t testing.TB, bkt bucket.Bucket, n int) shape {
	t.Helper()
	return nodeBlocksWith(t, bkt, n, block.UploadConfig{})
}

func nodeBlocksWith(t testing.TB, bkt bucket.Bucket, n int, cfg block.UploadConfig) shape {
	t.Helper()
	s := shape{blocks: n, samples: 480}
	for i := range n {
		mint := int64(i) * 2 * hour
		var kinds [][]chunks.Meta
		for k := range 37 {
			kinds = append(kinds, s.chunks(t, mint, k+1))
		}
		var series []blocktest.Series
		for k := range 60 * 8 * 8 {
			series = append(series, blocktest.Series{
				Labels: labels.FromStrings("__name__", "node_cpu_seconds_total", "job", "node", "cpu", fmt.Sprint(k/8%8),
					"instance", fmt.Sprintf("10.1.0.%d:9100", k/64), "mode", []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}[k%8]),
				Chunks: slices.Clone(kinds[k%37]),
			})
		}
		m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(i+1), nil), MinTime: mint, MaxTime: mint + 2*hour}}
		m.Thanos.Labels = map[string]string{"cluster": "eu", "replica": "a"}
		m.Stats.NumSeries, m.Stats.NumChunks = uint64(len(series)), uint64(4*len(series))
		dir := filepath.Join(t.TempDir(), m.ULID.String())
		require.NoError(t, blocktest.Write(t.Context(), dir, m, series))
		_, err := block.Upload(t.Context(), bkt, dir, cfg)
		require.NoError(t, err)
	}
	return s
}

// unsized is a bucket whose listing has no sizes, as that of S3 through objstore.
type unsized struct {
	*countingBucket
	stats atomic.Int64
}

func (u *unsized) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	return u.countingBucket.List(ctx, dir, func(o bucket.Object) error {
		o.Size = -1
		return f(o)
	})
}

func (u *unsized) Stat(ctx context.Context, name string) (bucket.Object, error) {
	u.stats.Add(1)
	return u.countingBucket.Stat(ctx, name)
}

// TestSelect_CostOfScatteredSeries counts requests and bytes of selectors of different
// shapes on blocks of real proportions: cold, and repeated.
func TestSelect_CostOfScatteredSeries(t *testing.T) {
	bkt := bucket.NewMemory()
	s := nodeBlocks(t, bkt, 2)
	cpu := matcher(labels.MatchEqual, "__name__", "node_cpu_seconds_total")
	instance := matcher(labels.MatchEqual, "instance", "10.1.0.7:9100")
	for _, c := range []struct {
		name    string
		ms      []*labels.Matcher
		series  int
		chunks  int64   // GETs of chunks for each block, at most
		fetched float64 // bytes of chunks, at most, for each byte that is used
	}{
		// A chunk of each series lies 1.8 MB behind the one before it.
		{"scattered", []*labels.Matcher{cpu, instance, matcher(labels.MatchEqual, "mode", "user")}, 8, 8, 3},
		{"instance", []*labels.Matcher{cpu, instance}, 64, 8, 1.5},
		{"whole", []*labels.Matcher{cpu}, 3840, 4, 1.1},
		{"all but one mode", []*labels.Matcher{cpu, matcher(labels.MatchNotEqual, "mode", "idle")}, 3360, 4, 1.3},
		{"one mode", []*labels.Matcher{cpu, matcher(labels.MatchRegexp, "mode", "u.*")}, 480, 3, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &unsized{countingBucket: &countingBucket{Reader: bkt}}
			g := newGateway(t, u, "--store.disk-cache-size=1GB")
			r := request(s, c.ms...)
			set := g.Select(t.Context(), r)
			series, used := 0, int64(0)
			for set.Next() {
				series++
				for _, ch := range set.At().Chunks {
					used += int64(len(ch.Raw.Bytes))
				}
			}
			require.NoError(t, set.Err())
			require.NoError(t, set.Close())
			require.Equal(t, c.series, series)
			st := set.Stats()
			index, gets, bytes := u.take()
			t.Logf("%d GETs of indexes, %d of chunks, %d bytes; chunks: %d bytes fetched for %d used", index, gets, bytes, st.ChunksBytes, used)
			require.Zero(t, u.stats.Load(), "HEADs")
			require.LessOrEqual(t, index, int64(s.blocks), "the whole index with one request")
			require.LessOrEqual(t, gets, c.chunks*int64(s.blocks))
			require.LessOrEqual(t, float64(st.ChunksBytes), c.fetched*float64(used))

			series, _, st = drain(t, g, t.Context(), r)
			require.Equal(t, c.series, series)
			index, gets, _ = u.take()
			require.Zero(t, index+gets+st.BytesFetched)
		})
	}
}

// TestSelect_HoldsBatchesOnly reads a large metric slowly: the request holds a few
// batches of each block, and not its result.
func TestSelect_HoldsBatchesOnly(t *testing.T) {
	bkt := bucket.NewMemory()
	s := nodeBlocks(t, bkt, 2)
	g := newGateway(t, bkt)
	set := g.Select(t.Context(), request(s, matcher(labels.MatchEqual, "__name__", "node_cpu_seconds_total")))
	set.(storeapi.RecyclingSet).Recycle()
	var total, most int64
	for set.Next() {
		for _, c := range set.At().Chunks {
			total += int64(len(c.Raw.Bytes))
		}
		most = max(most, g.budget.Used())
	}
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	t.Logf("held %d of %d bytes", most, total)
	require.Greater(t, total, int64(20<<20))
	require.Less(t, most, int64(2*4*maxBatch*5/4), "two blocks, each with at most four batches")
	require.Zero(t, g.budget.Used())
}
