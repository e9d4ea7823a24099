package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// shape describes the blocks of a metrics system: metrics with a series for
// each instance and code.
type shape struct {
	blocks, metrics, instances, codes int
	samples                           int // of each series, 15 s apart, 120 to a chunk
}

// fill puts the blocks into the bucket, two hours each.
func (s shape) fill(t testing.TB, bkt bucket.Bucket) {
	t.Helper()
	for i := range s.blocks {
		mint := int64(i) * 2 * hour
		m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(i+1), nil), MinTime: mint, MaxTime: mint + 2*hour}}
		m.Thanos.Labels = map[string]string{"cluster": "eu", "replica": "a"}
		dir := filepath.Join(t.TempDir(), m.ULID.String())
		require.NoError(t, blocktest.Write(t.Context(), dir, m, s.make(t, mint)))
		testBlock{dir: dir, meta: m}.upload(t, bkt)
	}
}

func (s shape) make(t testing.TB, mint int64) []blocktest.Series {
	var out []blocktest.Series
	var kinds [][]chunks.Meta // series share chunks
	for i := range 37 {
		kinds = append(kinds, s.chunks(t, mint, i))
	}
	for m := range s.metrics {
		for i := range s.instances {
			for c := range s.codes {
				out = append(out, blocktest.Series{
					Labels: labels.FromStrings("__name__", fmt.Sprintf("metric_%03d_total", m), "instance", fmt.Sprintf("10.0.%d.%d:9100", i/256, i%256),
						"job", "node", "code", fmt.Sprint(200+c), "pod", fmt.Sprintf("some-service-%d-%x", i%20, i*7919)),
					Chunks: slices.Clone(kinds[(m+i+c)%len(kinds)]),
				})
			}
		}
	}
	return out
}

func (s shape) chunks(t testing.TB, mint int64, seed int) []chunks.Meta {
	var out []chunks.Meta
	v := float64(seed)
	for n := 0; n < s.samples; n += 120 {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		first := mint + int64(n)*15_000
		last := first
		for k := n; k < min(n+120, s.samples); k++ {
			last = mint + int64(k)*15_000
			v += float64((k*seed)%17) * 1.37
			app.Append(0, last, v)
		}
		out = append(out, chunks.Meta{Chunk: c, MinTime: first, MaxTime: last})
	}
	return out
}

// drain reads a set and returns the number of series and chunks.
func drain(t testing.TB, g *Gateway, ctx context.Context, r *storeapi.Request) (series, chunks int, st storeapi.Stats) {
	t.Helper()
	set := g.Select(ctx, r)
	for set.Next() {
		series++
		chunks += len(set.At().Chunks)
	}
	require.NoError(t, set.Err())
	require.Empty(t, set.Warnings())
	require.NoError(t, set.Close())
	return series, chunks, set.Stats()
}

func request(s shape, ms ...*labels.Matcher) *storeapi.Request {
	return &storeapi.Request{MinTime: 0, MaxTime: int64(s.blocks) * 2 * hour, Matchers: ms}
}

func matcher(typ labels.MatchType, name, value string) *labels.Matcher {
	return labels.MustNewMatcher(typ, name, value)
}

// TestSelect_CostsFewRangeReads counts the requests of selectors: first without any cache,
// then with the local files of an earlier process, then repeated.
func TestSelect_CostsFewRangeReads(t *testing.T) {
	s := shape{blocks: 3, metrics: 60, instances: 60, codes: 2, samples: 240}
	bkt := bucket.NewMemory()
	s.fill(t, bkt)
	metric := matcher(labels.MatchEqual, "__name__", "metric_031_total")
	for _, c := range []struct {
		name   string
		ms     []*labels.Matcher
		series int
	}{
		{"one series", []*labels.Matcher{metric, matcher(labels.MatchEqual, "instance", "10.0.0.7:9100"), matcher(labels.MatchEqual, "code", "200")}, 1},
		{"one metric", []*labels.Matcher{metric}, 120},
		{"one metric with any pod", []*labels.Matcher{metric, matcher(labels.MatchRegexp, "pod", ".+")}, 120},
		{"one metric without a label", []*labels.Matcher{metric, matcher(labels.MatchEqual, "absent", "")}, 120},
		{"some metrics", []*labels.Matcher{matcher(labels.MatchRegexp, "__name__", "metric_03._total")}, 1200},
		{"one code of a metric", []*labels.Matcher{metric, matcher(labels.MatchNotEqual, "code", "200")}, 60},
		{"everything", []*labels.Matcher{matcher(labels.MatchRegexp, "__name__", ".+")}, 7200},
	} {
		t.Run(c.name, func(t *testing.T) {
			cb := &countingBucket{Reader: bkt}
			dir := t.TempDir()
			g := newGateway(t, cb, "--data-dir="+dir)
			r := request(s, c.ms...)
			read := func(how string, g *Gateway, mostIndex, mostChunks int64) {
				t.Helper()
				series, chunks, st := drain(t, g, t.Context(), r)
				require.Equal(t, c.series, series)
				require.Equal(t, c.series*2*s.blocks, chunks)
				index, segments, bytes := cb.take()
				t.Logf("%-40s %2d reads of indexes, %2d of chunks, %8d bytes for %d series", how, index, segments, bytes, series)
				require.LessOrEqual(t, index, mostIndex*int64(s.blocks), how)
				require.LessOrEqual(t, segments, mostChunks*int64(s.blocks), how)
				if mostIndex == 0 {
					require.Zero(t, st.BytesFetched)
				}
			}
			most := int64(1)
			if c.series > 7000 {
				most = 2 // more than one batch of chunks
			}
			read("first", g, 1, most) // the whole index is small enough for one
			read("repeated", g, 0, 0)
			g.close()
			read("after a restart", newGateway(t, cb, "--data-dir="+dir), 0, 0)
			read("without cached pages", newGateway(t, cb, "--store.disk-cache-size=0", "--index-cache-size=0"), 3, most)
		})
	}
}

// TestSelect_SkipsPostingsOfBroadMatchers counts the bytes of postings that a matcher on every series
// costs beside a selective one.
func TestSelect_SkipsPostingsOfBroadMatchers(t *testing.T) {
	s := shape{blocks: 1, metrics: 60, instances: 60, codes: 2, samples: 2}
	bkt := bucket.NewMemory()
	s.fill(t, bkt)
	r := request(s, matcher(labels.MatchEqual, "__name__", "metric_031_total"), matcher(labels.MatchRegexp, "pod", ".+"))
	_, _, lazy := drain(t, newGateway(t, bkt), t.Context(), r)
	_, _, eager := drain(t, newGateway(t, bkt, "--no-store.enable-lazy-expanded-postings"), t.Context(), r)
	require.Equal(t, int64(1), lazy.PostingsTouched)
	require.Equal(t, int64(61), eager.PostingsTouched)
	require.Equal(t, lazy.MergedSeries, eager.MergedSeries)
}

// TestSelect_FailsBeyondEachLimit exceeds each limit, and stays just within.
func TestSelect_FailsBeyondEachLimit(t *testing.T) {
	s := shape{blocks: 2, metrics: 3, instances: 10, codes: 1, samples: 240}
	bkt := bucket.NewMemory()
	s.fill(t, bkt)
	r := request(s, matcher(labels.MatchEqual, "__name__", "metric_001_total"))
	for _, c := range []struct {
		flag string
		ok   bool
	}{
		{"--store.limits.request-series=10", true},
		{"--store.limits.request-series=9", false},
		{"--store.grpc.touched-series-limit=9", false},
		{"--store.limits.request-samples=4800", true}, // 10 series × 2 blocks × 2 chunks × 120
		{"--store.limits.request-samples=4799", false},
		{"--store.grpc.series-sample-limit=4799", false},
		{"--store.grpc.downloaded-bytes-limit=16KB", false},
		{"--store.grpc.downloaded-bytes-limit=10MB", true},
		{"--chunk-pool-size=16KB", false},
		{"--chunk-pool-size=10MB", true},
	} {
		g := newGateway(t, bkt, c.flag)
		set := g.Select(t.Context(), r)
		for set.Next() {
		}
		if c.ok {
			require.NoError(t, set.Err(), c.flag)
		} else {
			require.ErrorIs(t, set.Err(), limit.ErrExceeded, c.flag)
			t.Log(set.Err())
		}
		require.NoError(t, set.Close())
		require.Zero(t, g.budget.Used(), c.flag)
	}
}
