package downsample

import (
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// BenchmarkRawFloats makes 5m data of series of two days, scraped every 15 s: counters,
// gauges that often stay as they are, and constants.
func BenchmarkRawFloats(b *testing.B) {
	const perSeries = 2 * 24 * 240
	for _, shape := range []string{"counter", "gauge", "seconds", "constant"} {
		b.Run(shape, func(b *testing.B) {
			// So many that the branch predictor cannot learn their bits.
			var series [][]chunks.Meta
			for i := range 8 {
				r := rand.New(rand.NewPCG(1, uint64(i)))
				samples := make([]sample, perSeries)
				v := 1e6
				for k := range samples {
					jitter := int64(0)
					if r.IntN(10) == 0 {
						jitter = 1
					}
					switch shape {
					case "counter":
						v += float64(r.IntN(20))
					case "gauge":
						if r.IntN(3) == 0 {
							v = float64(r.IntN(100))
						}
					case "seconds":
						v += r.Float64()
					}
					samples[k] = sample{t: int64(k)*15_000 + jitter, v: v}
				}
				series = append(series, encode(b, samples, 120))
			}
			d := New(block.ResolutionRaw, block.Resolution5m)
			for b.Loop() {
				for _, s := range series {
					_, err := d.Series(s)
					require.NoError(b, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*perSeries*len(series)), "ns/sample")
		})
	}
}
