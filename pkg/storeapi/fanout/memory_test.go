package fanout_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// wideStore makes n series while they are read, so that it has no memory of its
// own. Two of four stores have the same series.
type wideStore struct {
	n     int
	kind  int
	chunk storeapi.Chunk
}

func (w *wideStore) Info() storeapi.Info {
	return storeapi.Info{Component: "debug", MaxTime: 1 << 60, SupportsWithoutReplicaLabels: true}
}

func (w *wideStore) Select(ctx context.Context, _ *storeapi.Request) storeapi.SeriesSet {
	return &wideSet{SeriesSet: storeapi.EmptySet(), ctx: ctx, w: w}
}

func (w *wideStore) LabelNames(context.Context, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, nil
}

func (w *wideStore) LabelValues(context.Context, string, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, nil
}

type wideSet struct {
	storeapi.SeriesSet
	ctx context.Context
	w   *wideStore
	i   int
}

func (s *wideSet) Next() bool {
	s.i++
	return s.i <= s.w.n && s.ctx.Err() == nil
}

func (s *wideSet) At() storeapi.Series {
	return storeapi.Series{
		Labels: labels.FromStrings("__name__", "container_memory_working_set_bytes", "cluster", fmt.Sprintf("eu-%d", s.w.kind),
			"container", "application", "instance", fmt.Sprintf("10.1.%07d:9100", s.i), "job", "kubelet",
			"namespace", "production", "pod", fmt.Sprintf("application-%08d-abcde", s.i), "service", "kubelet"),
		Chunks: []storeapi.Chunk{s.w.chunk},
	}
}

// streamWide reads n series in all through a fan-out of four gRPC clients and
// returns how many came out and the largest heap that was seen on the way,
// servers included.
func streamWide(tb testing.TB, n int) (series int, peak uint64) {
	chunk := storetest.Chunks(tb, storetest.Floats(1_700_000_000_000, 15_000, 120), 120, chunkenc.EncXOR)[0]
	var stores []storeapi.Store
	for i := range 4 {
		stores = append(stores, storetest.ThroughGRPC(tb, &wideStore{n: n / 4, kind: i / 2, chunk: chunk}))
	}
	f := fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	set := f.Select(tb.Context(), &storeapi.Request{
		MinTime: 0, MaxTime: 1 << 50,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "container_memory_working_set_bytes")},
	})
	for set.Next() {
		if series++; series%512 == 0 {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
		}
	}
	require.NoError(tb, set.Err())
	require.Empty(tb, set.Warnings())
	require.NoError(tb, set.Close())
	return series, peak
}

// TestStream_HoldsMemoryOfFramesOnly streams far more than it may hold: 100,000 series of
// about 600 bytes.
func TestStream_HoldsMemoryOfFramesOnly(t *testing.T) {
	n, peak := streamWide(t, 100_000)
	require.Equal(t, 50_000, n)
	t.Logf("peak heap %d MiB", peak>>20)
	require.Less(t, peak, uint64(48<<20))
}

// BenchmarkStreamMillion streams a million series and reports the peak heap.
func BenchmarkStreamMillion(b *testing.B) {
	var most uint64
	for b.Loop() {
		n, peak := streamWide(b, 1_000_000)
		require.Equal(b, 500_000, n)
		most = max(most, peak)
	}
	b.ReportMetric(float64(most)/(1<<20), "peak-heap-MiB")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/series")
}
