package store

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// slowBucket adds the time to the first byte of object storage to each read.
type slowBucket struct {
	bucket.Reader
	delay time.Duration
}

func (s slowBucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.Reader.GetRange(ctx, name, off, length)
}

// BenchmarkSelect reads a day of 12 blocks of 20,000 series each from a bucket
// that takes 20 ms to answer: without any cache (cold), with index headers
// alone (headers), and repeated (warm).
func BenchmarkSelect(b *testing.B) {
	s := shape{blocks: 12, metrics: 100, instances: 100, codes: 2, samples: 480}
	bkt := bucket.NewMemory()
	s.fill(b, bkt)
	metric := matcher(labels.MatchEqual, "__name__", "metric_031_total")
	for _, q := range []struct {
		name string
		ms   []*labels.Matcher
	}{
		{"one series", []*labels.Matcher{metric, matcher(labels.MatchEqual, "instance", "10.0.0.7:9100"), matcher(labels.MatchEqual, "code", "200")}},
		{"one metric", []*labels.Matcher{metric}},
		{"20 metrics", []*labels.Matcher{matcher(labels.MatchRegexp, "__name__", "metric_0[34]._total")}},
		{"one instance", []*labels.Matcher{matcher(labels.MatchEqual, "instance", "10.0.0.7:9100")}},
	} {
		r := request(s, q.ms...)
		for _, state := range []string{"cold", "headers", "warm"} {
			b.Run(q.name+"/"+state, func(b *testing.B) { benchSelect(b, bkt, state, r) })
		}
	}
}

func benchSelect(b *testing.B, bkt bucket.Reader, state string, r *storeapi.Request) {
	cb := &countingBucket{Reader: slowBucket{Reader: bkt, delay: 20 * time.Millisecond}}
	dir := b.TempDir()
	open := func() *Gateway {
		if state == "headers" {
			return newGateway(b, cb, "--data-dir="+dir, "--store.disk-cache-size=0", "--index-cache-size=0")
		}
		return newGateway(b, cb, "--data-dir="+b.TempDir())
	}
	g := open()
	if state != "cold" {
		drain(b, g, b.Context(), r)
	}
	cb.take()
	var index, chunks, fetched, series, used int64
	var before, after runtime.MemStats
	var allocs uint64
	b.ResetTimer()
	for range b.N {
		if state == "cold" {
			b.StopTimer()
			g.close()
			g = open()
			b.StartTimer()
		}
		runtime.ReadMemStats(&before)
		series, used = 0, 0
		set := g.Select(b.Context(), r)
		for set.Next() {
			series++
			for _, c := range set.At().Chunks {
				used += int64(len(c.Raw.Bytes))
			}
		}
		require.NoError(b, set.Err())
		require.NoError(b, set.Close())
		runtime.ReadMemStats(&after)
		allocs += after.Mallocs - before.Mallocs
		i, c, n := cb.take()
		index, chunks, fetched = index+i, chunks+c, fetched+n
	}
	b.StopTimer()
	n, blocks := float64(b.N), 12.0
	b.ReportMetric(float64(index)/n/blocks, "indexGETs/block")
	b.ReportMetric(float64(chunks)/n/blocks, "chunkGETs/block")
	b.ReportMetric(float64(fetched)/n/1e6, "MB-fetched")
	b.ReportMetric(float64(used)/1e6, "MB-used")
	b.ReportMetric(float64(series), "series")
	b.ReportMetric(float64(allocs)/n/float64(series)/blocks, "allocs/series/block")
}

// BenchmarkSelect_Memory reads warm blocks as the evaluator does, which looks at chunks
// some series later: with memory that it leaves to the collector (kept), and with memory
// that it gives back (lent).
func BenchmarkSelect_Memory(b *testing.B) {
	s := shape{blocks: 12, metrics: 10, instances: 500, codes: 2, samples: 480}
	bkt := bucket.NewMemory()
	s.fill(b, bkt)
	g := newGateway(b, bkt, "--data-dir="+b.TempDir())
	r := request(s, matcher(labels.MatchRegexp, "__name__", "metric_00[0-4]_total"))
	drain(b, g, b.Context(), r)
	for _, lends := range []bool{false, true} {
		b.Run(map[bool]string{false: "kept", true: "lent"}[lends], func(b *testing.B) {
			var used int64
			b.ReportAllocs()
			for b.Loop() {
				set, n := g.Select(b.Context(), r).(storeapi.LendingSet), 0
				if lends {
					set.Lend()
				}
				for used = 0; set.Next(); n++ {
					for _, c := range set.At().Chunks {
						used += int64(len(c.Raw.Bytes))
					}
					if !lends || n%50 > 0 {
						continue
					}
					if m := set.Spent(); m != nil {
						m.Recycle()
					}
				}
				require.NoError(b, set.Err())
				require.NoError(b, set.Close())
			}
			b.ReportMetric(float64(used)/1e6, "MB-used")
		})
	}
}
