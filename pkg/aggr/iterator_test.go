package aggr_test

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

var stale = math.Float64frombits(value.StaleNaN)

// read returns all samples as pairs of int time and float64 value (of a
// histogram, its count).
func read(t testing.TB, it chunkenc.Iterator) []any {
	t.Helper()
	var out []any
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			ts, v := it.At()
			require.Equal(t, ts, it.AtT())
			out = append(out, int(ts), v)
			continue
		}
		ts, h := it.AtFloatHistogram(nil)
		require.Equal(t, ts, it.AtT())
		out = append(out, int(ts), h.Count)
	}
	require.NoError(t, it.Err())
	return out
}

func raw(d storeapi.Data, mint, maxt int64) storeapi.Chunk {
	return storeapi.Chunk{MinTime: mint, MaxTime: maxt, Raw: d}
}

func TestCounterIterator_AddsUpResets(t *testing.T) {
	f := func(want []any, chunks ...storeapi.Data) {
		t.Helper()
		require.Equal(t, want, read(t, aggr.NewCounterIterator(chunks)))
	}
	f(nil)
	f([]any{1, 5.0, 2, 7.0, 3, 8.0}, xor(t, 1, 5.0, 2, 7.0, 3, 1.0))
	// A reset between chunks is found with the true last value.
	f([]any{1, 5.0, 299, 20.0, 300, 22.0, 599, 25.0},
		xor(t, 1, 5.0, 299, 20.0, 299, 3.0), xor(t, 300, 2.0, 599, 5.0, 599, 5.0))
	f([]any{1, 5.0, 299, 20.0, 300, 21.0, 599, 24.0},
		xor(t, 1, 5.0, 299, 20.0, 299, 3.0), xor(t, 300, 4.0, 599, 7.0, 599, 7.0))
	// NaN and stale markers are dropped, and samples that go back in time.
	f([]any{2, 5.0, 4, 6.0}, xor(t, 1, math.NaN(), 2, 5.0, 3, stale, 4, 6.0), xor(t, 3, 9.0, 4, 6.0))
	// A counter that starts at zero.
	f([]any{1, 0.0, 2, 0.0, 3, 4.0}, xor(t, 1, 0.0, 2, 0.0, 3, 4.0))
	// Histograms pass, and their chunks may overlap.
	f([]any{1, 5.0, 2, 3.0, 3, 8.0},
		floatHist(t, histogram.GaugeType, 1, 5.0, 2, 3.0), floatHist(t, histogram.GaugeType, 2, 7.0, 3, 8.0))

	it := aggr.NewCounterIterator([]storeapi.Data{xor(t, 1, 5.0, 10, 1.0, 20, 2.0)})
	require.Equal(t, chunkenc.ValFloat, it.Seek(15))
	ts, v := it.At()
	require.Equal(t, int64(20), ts)
	require.Equal(t, 7.0, v, "the reset at 10 is not lost by seeking over it")
	require.Equal(t, chunkenc.ValFloat, it.Seek(3), "seeking back has no effect")
	require.Equal(t, int64(20), it.AtT())
	require.Equal(t, chunkenc.ValNone, it.Seek(21))
	require.Equal(t, chunkenc.ValNone, it.Next())

	it = aggr.NewCounterIterator([]storeapi.Data{{Encoding: chunkenc.EncXOR, Bytes: []byte{0, 9, 1}}})
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.Error(t, it.Err())
	require.Equal(t, chunkenc.ValNone, it.Seek(1))
}

func TestAverage_DividesSumByCount(t *testing.T) {
	avg := []storeapi.Aggregate{storeapi.AggregateCount, storeapi.AggregateSum}
	chunk := func(sum, count storeapi.Data) storeapi.Chunk {
		return storeapi.Chunk{MinTime: 0, MaxTime: 1000, Aggr: &storeapi.Aggregates{Sum: sum, Count: count}}
	}
	ok := []storeapi.Chunk{
		chunk(xor(t, 1, 10.0, 2, 9.0), xor(t, 1, 4.0, 2, 3.0)),
		chunk(xor(t, 3, 1.0), xor(t, 3, 2.0)),
	}
	require.Equal(t, []any{1, 2.5, 2, 3.0, 3, 0.5}, read(t, aggr.SeriesIterator(ok, avg)))

	h := []storeapi.Chunk{chunk(floatHist(t, histogram.GaugeType, 1, 12.0, 2, 9.0), xor(t, 1, 3.0, 2, 9.0))}
	require.Equal(t, []any{1, 4.0, 2, 1.0}, read(t, aggr.SeriesIterator(h, avg)))
	it := aggr.SeriesIterator(h, avg)
	require.Equal(t, chunkenc.ValFloatHistogram, it.Next())
	for range 2 { // reading twice must not divide twice
		_, fh := it.AtFloatHistogram(&histogram.FloatHistogram{})
		require.Equal(t, 12.0, fh.Sum)
		require.Equal(t, []float64{4}, fh.PositiveBuckets)
		_, fh = it.AtFloatHistogram(nil)
		require.Equal(t, []float64{4}, fh.PositiveBuckets)
	}

	bad := func(want string, c storeapi.Chunk) {
		t.Helper()
		it := aggr.SeriesIterator([]storeapi.Chunk{c}, avg)
		for it.Next() != chunkenc.ValNone {
		}
		require.ErrorContains(t, it.Err(), want)
	}
	bad("different numbers of samples", chunk(xor(t, 1, 10.0, 2, 1.0), xor(t, 1, 4.0)))
	bad("different times", chunk(xor(t, 1, 10.0, 2, 1.0), xor(t, 1, 4.0, 3, 1.0)))
	bad(aggr.ErrNoAggregate.Error(), chunk(xor(t, 1, 10.0), storeapi.Data{}))
	bad(aggr.ErrNoAggregate.Error(), storeapi.Chunk{})
	bad(aggr.ErrCorrupt.Error(), chunk(xor(t, 1, 10.0), floatHist(t, histogram.GaugeType, 1, 1.0)))
}

func TestSeriesIterator_SelectsAggregates(t *testing.T) {
	a := &storeapi.Aggregates{
		Count: xor(t, 10, 2.0, 20, 4.0), Sum: xor(t, 10, 6.0, 20, 4.0),
		Min: xor(t, 10, -1.0, 20, -2.0), Max: xor(t, 10, 7.0, 20, 8.0),
		Counter: xor(t, 1, 5.0, 10, 9.0, 20, 11.0, 20, 3.0),
	}
	chunks := []storeapi.Chunk{
		raw(xor(t, 0, 1.0, 1, 2.0), 0, 1),
		{MinTime: 10, MaxTime: 20, Aggr: a},
		raw(xor(t, 15, 0.5, 25, 4.0), 15, 25),
	}
	f := func(fn string, want ...any) {
		t.Helper()
		require.Equal(t, want, read(t, aggr.SeriesIterator(chunks, aggr.ForFunc(fn))), fn)
	}
	f("max_over_time", 0, 1.0, 1, 2.0, 10, 7.0, 20, 8.0, 25, 4.0)
	f("min", 0, 1.0, 1, 2.0, 10, -1.0, 20, -2.0, 25, 4.0)
	f("count_over_time", 0, 1.0, 1, 2.0, 10, 2.0, 20, 4.0, 25, 4.0)
	f("sum_over_time", 0, 1.0, 1, 2.0, 10, 6.0, 20, 4.0, 25, 4.0)
	f("avg", 0, 1.0, 1, 2.0, 10, 3.0, 20, 1.0, 25, 4.0)
	// 1 is in the past when the aggregate chunk starts: it only sets the last
	// value, from which 9 is 4 more.
	f("rate", 0, 1.0, 1, 2.0, 10, 6.0, 20, 8.0, 25, 9.0)

	it := aggr.SeriesIterator([]storeapi.Chunk{{Aggr: &storeapi.Aggregates{Count: a.Count}}}, aggr.ForFunc("max"))
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.ErrorIs(t, it.Err(), aggr.ErrNoAggregate)
}

func TestSeriesIterator_SeekEqualsNext(t *testing.T) {
	chunks := []storeapi.Chunk{
		raw(xor(t, 10, 1.0, 20, 2.0), 10, 20), raw(xor(t, 15, 9.0, 30, 3.0), 15, 30),
		raw(xor(t, 40, 4.0, 50, 5.0), 40, 50),
	}
	want := []int64{10, 20, 30, 40, 50}
	for from := range int64(60) {
		for to := range int64(60) {
			it := aggr.SeriesIterator(chunks, nil)
			for _, target := range []int64{from, max(from, to)} {
				typ := it.Seek(target)
				var expect int64
				for i := len(want) - 1; i >= 0 && want[i] >= target; i-- {
					expect = want[i]
				}
				if expect == 0 {
					require.Equal(t, chunkenc.ValNone, typ)
					require.Equal(t, chunkenc.ValNone, it.Next())
					continue
				}
				require.Equal(t, chunkenc.ValFloat, typ)
				require.Equal(t, expect, it.AtT())
			}
		}
	}
}
