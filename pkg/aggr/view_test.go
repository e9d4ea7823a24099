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

const m5 = aggr.Resolution5m

// end is the last millisecond of the window of 5m with the number i.
func end(i int) int { return (i+1)*int(m5) - 1 }

func counterChunk(t *testing.T, samples ...any) storeapi.Chunk {
	n := len(samples)
	return storeapi.Chunk{
		MinTime: int64(samples[2].(int)), MaxTime: int64(samples[n-2].(int)),
		Aggr: &storeapi.Aggregates{Counter: xor(t, samples...)},
	}
}

func TestResolution_FollowsFromTimes(t *testing.T) {
	f := func(want int64, times ...int) {
		t.Helper()
		var samples []any
		for _, at := range times {
			samples = append(samples, at, 1.0)
		}
		c := storeapi.Chunk{MinTime: int64(times[0]), MaxTime: int64(times[len(times)-1]), Aggr: &storeapi.Aggregates{Count: xor(t, samples...)}}
		require.Equal(t, want, aggr.Resolutions([]storeapi.Chunk{c})[0], times)
		c.Aggr = &storeapi.Aggregates{Counter: xor(t, append(append([]any{times[0] - 10, 1.0}, samples...), times[len(times)-1], 1.0)...)}
		require.Equal(t, want, aggr.Resolutions([]storeapi.Chunk{c})[0], times)
	}
	f(m5, end(0), end(1))
	f(m5, end(11), end(12), end(13))
	f(m5, end(11), end(14))
	f(m5, end(11), end(12), end(12)+100)
	f(aggr.Resolution1h, end(11), end(23))
	f(aggr.Resolution1h, end(11), end(23), end(23)+100)
	f(aggr.Resolution1h, end(11), end(11)+100)
	f(aggr.Resolution1h, end(11))
	f(m5, end(11)+100)
	require.Equal(t, []int64{0}, aggr.Resolutions([]storeapi.Chunk{{Raw: xor(t, 0, 1.0)}}))
}

// A chunk of one window that ends early has the resolution that its store told, or that
// of the nearest chunk that shows its own.
func TestResolutions_OfShortChunks(t *testing.T) {
	chunk := func(told int64, times ...int) storeapi.Chunk {
		var samples []any
		for _, at := range times {
			samples = append(samples, at, 1.0)
		}
		return storeapi.Chunk{
			MinTime: int64(times[0]), MaxTime: int64(times[len(times)-1]),
			Aggr: &storeapi.Aggregates{Resolution: told, Count: xor(t, samples...)},
		}
	}
	short := func(at int) storeapi.Chunk { return chunk(0, at) }
	raw := storeapi.Chunk{Raw: xor(t, 0, 1.0)}
	const m5, h1 = aggr.Resolution5m, aggr.Resolution1h
	for _, c := range []struct {
		chunks []storeapi.Chunk
		want   []int64
	}{
		{nil, []int64{}},
		{[]storeapi.Chunk{short(end(3) - 7)}, []int64{m5}},
		{[]storeapi.Chunk{chunk(h1, end(3)-7)}, []int64{h1}},
		{[]storeapi.Chunk{chunk(m5, end(11))}, []int64{m5}},
		{[]storeapi.Chunk{chunk(h1, end(11), end(11)+100, end(12)), chunk(17, end(3)-7)}, []int64{h1, m5}},
		{[]storeapi.Chunk{chunk(0, end(11), end(23)), short(end(24) - 7), short(end(27) - 7)}, []int64{h1, h1, h1}},
		{[]storeapi.Chunk{short(end(2) - 7), short(end(5) - 7), chunk(0, end(11), end(23))}, []int64{h1, h1, h1}},
		{[]storeapi.Chunk{chunk(0, end(11), end(23)), short(end(24) - 7), chunk(0, end(25), end(26))}, []int64{h1, h1, m5}},
		{[]storeapi.Chunk{chunk(0, end(11), end(23)), short(end(24))}, []int64{h1, m5}},
		{[]storeapi.Chunk{chunk(0, end(11), end(23)), raw, short(end(30) - 7), raw, chunk(0, end(35))}, []int64{h1, 0, m5, 0, h1}},
	} {
		require.Equal(t, c.want, aggr.Resolutions(c.chunks))
	}
}

// The samples of a counter are evenly spaced across the ends of chunks and in the
// raw data that follows. The first value of the series is kept.
func TestView_SpacesCounterEvenly(t *testing.T) {
	chunks := []storeapi.Chunk{
		counterChunk(t, 7000, 1.0, end(0), 5.0, end(1), 10.0, end(1)+50_000, 11.0, end(1)+50_000, 2.0),
		counterChunk(t, end(2)+7000, 4.0, end(3), 6.0, end(3), 6.0),
		raw(xor(t, end(3)+7000, 7.0, end(3)+90_000, 8.0, end(4)+7000, 1.0, end(6)+1, 3.0), int64(end(3)+7000), int64(end(6)+1)),
	}
	v := aggr.View{Aggregates: aggr.ForFunc("rate"), Range: true, Grid: m5}
	want := []any{
		-1, 1.0, end(0), 5.0, end(1), 10.0, end(2), 11.0,
		end(3), 15.0, // 2 to 4 to 6
		end(4), 17.0, end(5), 18.0,
		// A window without samples is a gap: the growth in it is dated at its end.
		end(6), 20.0, end(7), 20.0,
	}
	require.Equal(t, want, read(t, v.Iterator(chunks)))
	it := v.Iterator(chunks)
	require.Equal(t, chunkenc.ValFloat, it.Seek(int64(end(2))))
	require.Equal(t, int64(end(2)), it.AtT())
	require.Equal(t, chunkenc.ValFloat, it.Seek(int64(end(6))-1))
	require.Equal(t, int64(end(6)), it.AtT())
	require.Equal(t, chunkenc.ValNone, it.Seek(int64(end(8))))
}

// The number of samples is that of windows and of raw samples without stale markers.
func TestView_CountsSamples(t *testing.T) {
	chunks := []storeapi.Chunk{
		{MinTime: int64(end(0)), MaxTime: int64(end(1) - 100), Aggr: &storeapi.Aggregates{Count: xor(t, end(0), 5.0, end(1)-100, 4.0)}},
		raw(xor(t, end(2), 7.5, end(2)+10, math.NaN(), end(2)+20, math.Float64frombits(value.StaleNaN)), int64(end(2)), int64(end(2)+20)),
	}
	it := aggr.View{Aggregates: aggr.ForFunc("count"), Count: true, Range: true}.Iterator(chunks)
	var got []float64
	var times []int64
	for it.Next() != chunkenc.ValNone {
		at, v := it.At()
		if !value.IsStaleNaN(v) {
			got, times = append(got, v), append(times, at)
		}
	}
	require.NoError(t, it.Err())
	require.Equal(t, []float64{5, 4, 1, 1}, got)
	require.Equal(t, []int64{int64(end(0)), int64(end(1)), int64(end(2)), int64(end(2) + 10)}, times)
}

// Averages are dated at the middles of windows for functions of their change.
func TestView_DatesAveragesAtMiddles(t *testing.T) {
	half := int(m5) / 2
	chunks := []storeapi.Chunk{{
		MinTime: int64(end(0)), MaxTime: int64(end(1) - 100),
		Aggr: &storeapi.Aggregates{Count: xor(t, end(0), 2.0, end(1)-100, 2.0), Sum: xor(t, end(0), 4.0, end(1)-100, 8.0)},
	}}
	v := aggr.View{Aggregates: aggr.ForFunc("delta"), Range: true, Middle: true}
	require.Equal(t, []any{end(0) - half, 2.0, end(1) - half, 4.0}, read(t, v.Iterator(chunks)))
	it := v.Iterator(chunks)
	require.Equal(t, chunkenc.ValFloat, it.Seek(int64(end(1)-half)))
	require.Equal(t, int64(end(1)-half), it.AtT())
}

func histogramChunk(t *testing.T, header chunkenc.CounterResetHeader, samples ...any) storeapi.Chunk {
	d := floatHist(t, histogram.UnknownCounterReset, samples...)
	aggr.SetCounterResetHeader(d, header)
	return storeapi.Chunk{
		MinTime: int64(samples[0].(int)), MaxTime: int64(samples[len(samples)-2].(int)),
		Aggr: &storeapi.Aggregates{Counter: d},
	}
}

// A fall between two chunks is a reset where values are raw, and none after a
// chunk whose last value may be above the raw one.
func TestCounterIterator_AddsUpResetsOfHistograms(t *testing.T) {
	f := func(first, second chunkenc.CounterResetHeader, next float64, want ...float64) {
		t.Helper()
		it := aggr.SeriesIterator([]storeapi.Chunk{
			histogramChunk(t, first, 10, 5.0, 20, 9.0),
			histogramChunk(t, second, 30, next, 40, next+2),
			raw(floatHist(t, histogram.UnknownCounterReset, 50, 1.0), 50, 50),
		}, aggr.ForFunc("rate"))
		var got []float64
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			require.Equal(t, chunkenc.ValFloatHistogram, typ)
			_, h := it.AtFloatHistogram(nil)
			got = append(got, h.PositiveBuckets[0])
			require.NotEqual(t, histogram.CounterReset, h.CounterResetHint)
		}
		require.NoError(t, it.Err())
		require.Equal(t, want, got)
	}
	f(chunkenc.NotCounterReset, chunkenc.NotCounterReset, 4, 5, 9, 13, 15, 16)
	f(chunkenc.NotCounterReset, chunkenc.CounterReset, 12, 5, 9, 21, 23, 24)
	f(chunkenc.NotCounterReset, chunkenc.NotCounterReset, 12, 5, 9, 12, 14, 15)
	// Other writers: 9 may contain a reset. The raw value after 6 is one of 1.
	f(chunkenc.UnknownCounterReset, chunkenc.NotCounterReset, 4, 5, 9, 9, 11, 12)
	f(chunkenc.UnknownCounterReset, chunkenc.UnknownCounterReset, 4, 5, 9, 9, 11, 11)
}

// Thanos writes the header NotCounterReset or CounterReset over values that have resets added
// up: a fall to the next chunk is no growth then.
func TestCounterIterator_DoesNotTrustTheHeaderOfThanos(t *testing.T) {
	for _, header := range []chunkenc.CounterResetHeader{chunkenc.NotCounterReset, chunkenc.CounterReset} {
		foreign := func(samples ...any) storeapi.Chunk {
			c := histogramChunk(t, chunkenc.UnknownCounterReset, samples...)
			c.Aggr.Counter.Bytes[2] |= byte(header)
			require.Equal(t, chunkenc.UnknownCounterReset, aggr.CounterResetHeader(c.Aggr.Counter))
			return c
		}
		it := aggr.SeriesIterator([]storeapi.Chunk{foreign(10, 5.0, 20, 9.0), foreign(30, 4.0, 40, 6.0)}, aggr.ForFunc("rate"))
		var got []float64
		for it.Next() != chunkenc.ValNone {
			_, h := it.AtFloatHistogram(nil)
			got = append(got, h.PositiveBuckets[0])
		}
		require.NoError(t, it.Err())
		require.Equal(t, []float64{5, 9, 9, 11}, got)
	}
}
