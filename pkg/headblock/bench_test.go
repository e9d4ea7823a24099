package headblock

import (
	"fmt"
	"math/rand"
	"path/filepath"
	"testing"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"
)

// BenchmarkWrite converts two hours of 20,000 series that are scraped each minute, with
// memory for all samples and for a part of them.
func BenchmarkWrite(b *testing.B) {
	const series, scrapes = 20_000, 120
	dir := b.TempDir()
	w, err := wlog.New(promslog.NewNopLogger(), nil, filepath.Join(dir, "wal"), compression.Snappy)
	require.NoError(b, err)
	var e record.Encoder
	rnd := rand.New(rand.NewSource(1))
	var recs []record.RefSeries
	values := make([]float64, series)
	for i := range series {
		recs = append(recs, record.RefSeries{Ref: chunks.HeadSeriesRef(i + 1), Labels: labels.FromStrings(
			"__name__", fmt.Sprintf("metric_%d_total", i%200), "instance", fmt.Sprintf("10.0.0.%d:9090", i/200), "job", "bench")})
	}
	require.NoError(b, w.Log(e.Series(recs, nil)))
	for n := range scrapes {
		samples := make([]record.RefSample, 0, 200)
		for i := range series {
			values[i] += float64(rnd.Intn(100))
			samples = append(samples, record.RefSample{Ref: chunks.HeadSeriesRef(i + 1), T: 1_699_999_200_000 + int64(n)*60_000, V: values[i]})
			if len(samples) == 200 {
				require.NoError(b, w.Log(e.Samples(samples, nil)))
				samples = samples[:0]
			}
		}
	}
	require.NoError(b, w.Close())
	src, err := OpenDir(dir)
	require.NoError(b, err)
	defer src.Close()
	for _, memory := range []int64{256 << 20, 6 << 20} {
		b.Run(fmt.Sprintf("memory=%dMiB", memory>>20), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				report, err := Write(b.Context(), Config{Source: src, Dir: b.TempDir(), MinTime: src.MinTime(), Memory: memory})
				require.NoError(b, err)
				b.ReportMetric(float64(report.Passes), "passes/op")
			}
			b.ReportMetric(float64(series*scrapes*b.N)/b.Elapsed().Seconds()/1e6, "Msamples/s")
		})
	}
}
