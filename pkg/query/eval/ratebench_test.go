package eval

import (
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/stats"
	"github.com/stretchr/testify/require"
)

// BenchmarkRate measures the functions of counters over the columns of a day: scraped every
// 15 s with jitter, with a reset every ten minutes and a hole every two hours. Times are
// the tenth percentile, because other programs disturb the rest.
func BenchmarkRate(b *testing.B) {
	r := rand.New(rand.NewSource(1))
	in := make([]Samples, 64) // as many that the branch predictor cannot learn them
	for i := range in {
		phase := int64(i%40) * 375
		for t := phase; t < benchDay; t += 15_000 {
			if t%7_200_000 < 300_000 {
				continue
			}
			at := max(0, t+r.Int63n(21)-10)
			in[i].T = append(in[i].T, at)
			in[i].V = append(in[i].V, float64(int64(11.1*(float64(at)/1000+0.3*float64(at%600_000)/1000))))
		}
	}
	for _, name := range []string{"rate", "increase"} {
		b.Run(name, func(b *testing.B) {
			g := grid{start: 0, step: 60_000, steps: benchDay / 60_000, ranged: true}
			run := &run{opts: &Options{}}
			w := newWorker(b.Context(), &scope{run: run, grid: g, stats: stats.NewQuerySamples(false)}, 0, true)
			f := &rangeFunc{name: name, rng: 300_000}
			k := &rangeKernel{rangeFunc: f}
			k.float = k.floatFunc()
			out := &row{has: make([]bool, g.steps), v: make([]float64, g.steps)}
			metric := labels.FromStrings("__name__", "x_total")
			var took []float64
			var s Samples
			for i := 0; b.Loop(); i++ {
				s.T, s.V = append(s.T[:0], in[i%len(in)].T...), append(s.V[:0], in[i%len(in)].V...)
				clear(out.has)
				out.n = 0
				begin := time.Now()
				require.NoError(b, k.eval(w, metric, &s, out))
				took = append(took, float64(time.Since(begin).Nanoseconds()))
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/10]/float64(g.steps), "ns/step")
		})
	}
}
