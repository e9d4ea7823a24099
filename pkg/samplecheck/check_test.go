package samplecheck_test

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/samplecheck"
)

// floats encodes samples at these times.
func floats(t testing.TB, ts ...int64) []byte {
	t.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, at := range ts {
		app.Append(0, at, float64(at))
	}
	return c.Bytes()
}

// histograms encodes histograms at these times.
func histograms(t testing.TB, ts ...int64) []byte {
	t.Helper()
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i, at := range ts {
		_, _, app, err = app.AppendHistogram(nil, 0, at, tsdbutil.GenerateTestHistogram(int64(i)), true)
		require.NoError(t, err)
	}
	return c.Bytes()
}

func TestChunk_ChecksOrderAndTimes(t *testing.T) {
	var c samplecheck.Checker
	for enc, encode := range map[chunkenc.Encoding]func(testing.TB, ...int64) []byte{
		chunkenc.EncXOR: floats, chunkenc.EncHistogram: histograms,
	} {
		ok := func(mint, maxt int64, ts ...int64) {
			t.Helper()
			require.NoError(t, c.Chunk(enc, encode(t, ts...), mint, maxt))
		}
		wrong := func(want string, mint, maxt int64, ts ...int64) {
			t.Helper()
			err := c.Chunk(enc, encode(t, ts...), mint, maxt)
			require.Equal(t, reason.BlockSampleTimes, samplecheck.Reason(err))
			require.ErrorContains(t, err, want)
		}
		ok(10, 30, 10, 20, 30)
		ok(-30, -10, -30, -20, -10)
		ok(0, 99, 10, 20, 30) // wider
		ok(10, 30)            // no samples
		ok(math.MinInt64, math.MaxInt64, 5)
		wrong("sample 3 at 15 follows one at 20", 10, 30, 10, 20, 15, 30)
		wrong("sample 3 at 20 follows one at 20", 10, 30, 10, 20, 20, 30)
		wrong("from 10 to 30, the index says from 11 to 30", 11, 30, 10, 20, 30)
		wrong("from 10 to 30, the index says from 10 to 29", 10, 29, 10, 20, 30)
		wrong("from 5 to 5, the index says from 10 to 30", 10, 30, 5)
	}
}

func TestChunk_RefusesWhatCannotBeDecoded(t *testing.T) {
	var c samplecheck.Checker
	refuse := func(enc chunkenc.Encoding, data []byte) {
		t.Helper()
		err := c.Chunk(enc, data, math.MinInt64, math.MaxInt64)
		require.Error(t, err)
		require.Equal(t, reason.BlockChunkCorrupt, samplecheck.Reason(err))
	}
	var ts []int64
	for i := range int64(100) {
		ts = append(ts, 15_000*i+i%7)
	}
	announced := floats(t, ts...)
	announced[1] += 9 // more samples than it has
	refuse(chunkenc.EncXOR, announced)
	cut := histograms(t, ts...)
	refuse(chunkenc.EncHistogram, cut[:len(cut)*2/3])
	refuse(chunkenc.EncXOR, nil)
	refuse(99, floats(t, 1, 2))
	refuse(aggr.Encoding, floats(t, 1, 2))
}

// The times of an aggregate chunk in the index are not those of its counter, and the last
// two samples of the counter have one time.
func TestChunk_ChecksAggregates(t *testing.T) {
	var c samplecheck.Checker
	var ts []int64
	for i := range int64(240) {
		ts = append(ts, 15_000*i)
	}
	for enc, data := range map[chunkenc.Encoding][]byte{chunkenc.EncXOR: floats(t, ts...), chunkenc.EncHistogram: histograms(t, ts...)} {
		raw, err := chunkenc.FromData(enc, data)
		require.NoError(t, err)
		out, err := downsample.New(0, 300_000).Series([]chunks.Meta{{MinTime: ts[0], MaxTime: ts[len(ts)-1], Chunk: raw}})
		require.NoError(t, err)
		require.Len(t, out, 1)
		require.NoError(t, c.Chunk(aggr.Encoding, out[0].Chunk.Bytes(), out[0].MinTime, out[0].MaxTime))

		for _, few := range [][]int64{{299_999}, {299_999, 300_000}, {5}, {5, 6}} {
			if enc == chunkenc.EncXOR {
				data = floats(t, few...)
			} else {
				data = histograms(t, few...)
			}
			raw, err := chunkenc.FromData(enc, data)
			require.NoError(t, err)
			small, err := downsample.New(0, 300_000).Series([]chunks.Meta{{MinTime: few[0], MaxTime: few[len(few)-1], Chunk: raw}})
			require.NoError(t, err)
			for _, m := range small {
				require.NoError(t, c.Chunk(aggr.Encoding, m.Chunk.Bytes(), m.MinTime, m.MaxTime), "%v", few)
			}
		}
		out, err = downsample.New(0, 300_000).Series([]chunks.Meta{{MinTime: ts[0], MaxTime: ts[len(ts)-1], Chunk: raw}})
		require.NoError(t, err)
		a, err := aggr.Decode(out[0].Chunk.Bytes())
		require.NoError(t, err)
		good := a.Count.Bytes
		a.Count.Bytes = floats(t, 300_000, 600_000, 500_000)
		bad, err := aggr.Append(nil, &a)
		require.NoError(t, err)
		require.Equal(t, reason.BlockSampleTimes, samplecheck.Reason(c.Chunk(aggr.Encoding, bad, 0, math.MaxInt64)))
		a.Count.Bytes, a.Counter.Bytes = good, append([]byte(nil), a.Counter.Bytes...)
		a.Counter.Bytes[1] += 5
		bad, err = aggr.Append(nil, &a)
		require.NoError(t, err)
		err = c.Chunk(aggr.Encoding, bad, 0, math.MaxInt64)
		require.ErrorContains(t, err, "aggregate counter")
	}
}
