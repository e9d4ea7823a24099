package compact_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// aggregates returns the windows of all series named up in the blocks of a resolution: the
// count by the number of the window since 1970, and the chunks of the counter with their number of samples.
func aggregates(t testing.TB, b bucket.Bucket, resolution int64) (counts map[int64]float64, windows, counters int) {
	t.Helper()
	counts = map[int64]float64{}
	for id, m := range poll(t, b).Metas {
		if m.Resolution() != resolution {
			continue
		}
		each(t, b, id, func(_ labels.Labels, chks []chunks.Meta) {
			for _, c := range chks {
				a, err := aggr.Decode(c.Chunk.Bytes())
				require.NoError(t, err)
				count, err := chunkenc.FromData(a.Count.Encoding, a.Count.Bytes)
				require.NoError(t, err)
				for _, s := range samples(t, count) {
					counts[int64(math.Floor(float64(s.t)/float64(resolution)))] += math.Float64frombits(s.bits)
					windows++
				}
				counter, err := chunkenc.FromData(a.Counter.Encoding, a.Counter.Bytes)
				require.NoError(t, err)
				counters += counter.NumSamples() - 2
			}
		})
	}
	return counts, windows, counters
}

// The growth of a gauge between infinite values is not a number. Its block is downsampled
// like others, also to 1h, and each window has a value of the counter.
func TestDownsample_TakesInfiniteValues(t *testing.T) {
	for name, values := range map[string]string{
		"all":  "0m..20160m/2m:Inf",
		"some": "0m..5000m/2m:7+1 5002m..9000m/2m:Inf 9002m..9900m/2m:-Inf 9902m..20160m/2m:3+1",
		"last": "0m..20000m/2m:7 20002m..20160m/2m:Inf",
	} {
		t.Run(name, func(t *testing.T) {
			b := blocktest.Bucket(t, fmt.Sprintf("block a range=0h..336h labels={cluster=\"eu\"}\n  up %s\n", values))
			require.NoError(t, newCompactor(t, b, "--compact.verify=full").RunOnce(t.Context()))
			for _, res := range []int64{block.Resolution5m, block.Resolution1h} {
				counts, windows, counters := aggregates(t, b, res)
				total := 0.0
				for _, n := range counts {
					total += n
				}
				require.Equal(t, len(content(t, b)[`{cluster="eu"}{__name__="up"}`]), int(total))
				require.Equal(t, windows, counters, "each window has a value of the counter")
			}
		})
	}
}

// Windows before 1970 end on multiples of the resolution, and none is longer.
func TestDownsample_TakesTimesBefore1970(t *testing.T) {
	b := blocktest.Bucket(t, `
block a range=-340h..-4h labels={cluster="eu"}
  up  -20400m..-240m/1m:1+1
  lat -20400m..-240m/1m:h1+1
`)
	require.NoError(t, newCompactor(t, b, "--compact.verify=full").RunOnce(t.Context()))
	require.Contains(t, strings.Join(live(t, b), "\n"), "-340..-4h res=60")
	for _, res := range []int64{block.Resolution5m, block.Resolution1h} {
		counts, _, _ := aggregates(t, b, res)
		require.Len(t, counts, 336*3_600_000/int(res))
		for number, n := range counts {
			require.Equal(t, 2*float64(res/60_000), n, "window %d", number)
		}
	}
}

// oddHistograms encodes gauge histograms whose sum becomes huge and falls again, infinite,
// and a number again; or histograms with custom buckets that have no bounds.
func oddHistograms(t testing.TB, gauge bool) []chunks.Meta {
	t.Helper()
	c := chunkenc.NewFloatHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	ts := times(0, 40*60)
	for i, at := range ts {
		h := &histogram.FloatHistogram{
			Schema: histogram.CustomBucketsSchema, Count: float64(i), Sum: float64(i),
			PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{float64(i)},
		}
		if gauge {
			h.Schema, h.CounterResetHint = 1, histogram.GaugeType
			switch i % 60 {
			case 9:
				h.Sum = math.MaxFloat64
			case 29:
				h.Sum = math.Inf(1)
			case 30:
				h.Sum = math.Inf(-1)
			}
		}
		made, _, next, err := app.AppendFloatHistogram(nil, 0, at, h, true)
		require.NoError(t, err)
		require.Nil(t, made)
		app = next
	}
	return []chunks.Meta{{MinTime: 0, MaxTime: ts[len(ts)-1], Chunk: c}}
}

// The counter of a gauge is the last value of each window as it is. Custom buckets may have
// no bounds: their only bucket is that up to infinity.
func TestDownsample_TakesOddHistograms(t *testing.T) {
	for _, gauge := range []bool{true, false} {
		b := bucket.NewMemory()
		m := &block.Meta{}
		m.ULID, m.MaxTime = blocktest.ID("a"), 40*3_600_000
		m.Thanos.Labels = map[string]string{"cluster": "eu"}
		dir := filepath.Join(t.TempDir(), m.ULID.String())
		require.NoError(t, blocktest.Write(t.Context(), dir, m, []blocktest.Series{
			{Labels: labels.FromStrings("__name__", "up"), Chunks: oddHistograms(t, gauge)},
		}))
		_, err := block.Upload(t.Context(), b, dir, block.UploadConfig{})
		require.NoError(t, err)
		require.NoError(t, newCompactor(t, b, "--compact.verify=full").RunOnce(t.Context()), "gauge: %t", gauge)
		require.Contains(t, strings.Join(live(t, b), "\n"), "0..40h res=5")
		counts, _, _ := aggregates(t, b, block.Resolution5m)
		require.Len(t, counts, 40*12)
	}
}
