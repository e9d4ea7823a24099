package block_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// BenchmarkVerify reads a block of two hours: 20,000 series of 12 labels with
// four chunks each.
func BenchmarkVerify(b *testing.B) {
	const series, perSeries, samples = 20_000, 4, 120
	all := make([]blocktest.Series, series)
	for i := range all {
		lset := labels.NewBuilder(labels.FromStrings("__name__", fmt.Sprintf("metric_%d", i%500), "instance", fmt.Sprintf("10.0.%d.%d:9100", i/256%256, i%256)))
		for l := range 10 {
			lset.Set(fmt.Sprintf("label_%d", l), fmt.Sprintf("value_%d", i%(l+2)))
		}
		lset.Set("n", fmt.Sprint(i))
		all[i].Labels = lset.Labels()
		for c := range perSeries {
			chk := chunkenc.NewXORChunk()
			app, err := chk.Appender()
			if err != nil {
				b.Fatal(err)
			}
			start := int64(c * samples * 15_000)
			for s := range samples {
				app.Append(0, start+int64(s)*15_000, float64(i*s))
			}
			all[i].Chunks = append(all[i].Chunks, chunks.Meta{Chunk: chk, MinTime: start, MaxTime: start + (samples-1)*15_000})
		}
	}
	m := &block.Meta{}
	m.ULID, m.MaxTime = blocktest.ID("a"), 7_200_000
	dir := filepath.Join(b.TempDir(), "block")
	if err := blocktest.Write(b.Context(), dir, m, all); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := block.Verify(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(series*perSeries*samples), "ns/sample")
}
