package query

import (
	"context"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// streamThrough reads n series of two replicas through gRPC and a fan-out, decodes each
// as the evaluator of sum(rate()) does, and returns the largest live heap seen on the
// way, the server included.
func streamThrough(tb testing.TB, n int) (peak uint64) {
	store := storetest.ThroughGRPC(tb, newManyStore(tb, n, 12))
	f := fanout.New(func() []storeapi.Store { return []storeapi.Store{store} }, fanout.Config{})
	hints := storage.SelectHints{Start: 0, End: 1 << 40, Func: "rate"}
	st := NewQueryable(f, replicaConfig()).streams().Select(tb.Context(), sel("http.*", hints))
	var samples eval.Samples
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	i, sum := 0, 0
	for st.Next() {
		s := st.At()
		if i%16 == 0 { // decoding all of them would only cost time
			require.NoError(tb, s.Decode(&samples))
			sum += len(samples.T)
		}
		s.Release()
		if i++; i%(n/20) == 0 {
			runtime.GC()
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
		}
	}
	require.NoError(tb, st.Err())
	require.NoError(tb, st.Close())
	require.Equal(tb, n, i)
	require.Positive(tb, sum)
	return peak
}

// TestStream_MemoryDoesNotGrowWithSeries compares two sizes, through gRPC and a
// fan-out. All chunks of the larger one would be many times the heap.
func TestStream_MemoryDoesNotGrowWithSeries(t *testing.T) {
	var small, large uint64
	// The connection of a subtest ends with it. The first one fills the pools of gRPC.
	t.Run("warm", func(t *testing.T) { streamThrough(t, 6000) })
	t.Run("small", func(t *testing.T) { small = streamThrough(t, 6000) })
	t.Run("large", func(t *testing.T) { large = streamThrough(t, 20_000) })
	t.Logf("peak of the live heap: %d KiB for 6,000 series, %d KiB for 20,000", small>>10, large>>10)
	// A frame more or less is a tenth of it.
	require.Less(t, float64(large), 1.3*float64(small))
}

// BenchmarkStream reads series of two replicas with 12 chunks each. One operation is
// one series of the result, not decoded. "memory" has only the stream, "fanout" the
// merge of the two replicas before it.
func BenchmarkStream(b *testing.B) {
	for _, c := range []struct {
		name  string
		store func(n int) storeapi.Store
	}{
		{"memory", func(n int) storeapi.Store { return kept(b, n, -1) }},
		{"fanout", func(n int) storeapi.Store {
			stores := []storeapi.Store{kept(b, n, 0), kept(b, n, 1)}
			return fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			q := NewQueryable(c.store(10_000), replicaConfig())
			budget := newMemoryBudget(1<<30, nil)
			ctx, end := withAccount(b, budget, fetchLimits{Samples: 1 << 40, Series: 1 << 40})
			defer end()
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				st := q.streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
				n += drained(st)
				require.NoError(b, st.Close())
			}
		})
	}
}

// keptStore has its series in memory.
type keptStore struct {
	*manyStore
	series []storeapi.Series
}

// kept holds the series of one replica, or with -1 of both.
func kept(tb testing.TB, n, replica int) *keptStore {
	k := &keptStore{manyStore: newManyStore(tb, n, 12)}
	set := k.manyStore.Select(tb.Context(), nil)
	for i := 0; set.Next(); i++ {
		if replica < 0 || i%2 == replica {
			at := set.At()
			at.Chunks = append([]storeapi.Chunk(nil), at.Chunks...)
			k.series = append(k.series, at)
		}
	}
	return k
}

func (k *keptStore) Select(context.Context, *storeapi.Request) storeapi.SeriesSet {
	return storeapi.NewSliceSet(k.series)
}
