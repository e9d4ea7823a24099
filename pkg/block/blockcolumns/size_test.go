package blockcolumns_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// kinds are series of different values, each made of the value before.
func kinds() map[string]func(*rand.Rand, float64) float64 {
	return map[string]func(*rand.Rand, float64) float64{
		"constants":        func(_ *rand.Rand, v float64) float64 { return v },
		"counters":         func(rng *rand.Rand, v float64) float64 { return v + float64(rng.IntN(1000)) },
		"slow counters":    func(rng *rand.Rand, v float64) float64 { return v + float64(rng.IntN(10)/9) },
		"whole gauges":     func(rng *rand.Rand, _ float64) float64 { return float64(rng.IntN(1 << 30)) },
		"two decimals":     func(rng *rand.Rand, v float64) float64 { return float64(int64(v*100)+rng.Int64N(1500)) / 100 },
		"many decimals":    func(rng *rand.Rand, v float64) float64 { return v + rng.Float64() },
		"random fractions": func(rng *rand.Rand, _ float64) float64 { return rng.NormFloat64() },
	}
}

// kindBlock writes a block of two hours of series of a kind, scraped every 15 s.
func kindBlock(t testing.TB, series int, jitter int64, next func(*rand.Rand, float64) float64) (dir string, size int64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	all := make([]blocktest.Series, series)
	for i := range all {
		v, ts := float64(rng.IntN(1_000_000)), 1_000_000+rng.Int64N(15_000)
		all[i].Labels = labels.FromStrings("__name__", "some_metric_total", "instance", fmt.Sprintf("10.0.0.%d:9100", i/50), "job", "node", "mode", fmt.Sprint("mode-", i%50))
		for range 4 {
			c := chunkenc.NewXORChunk()
			app, err := c.Appender()
			require.NoError(t, err)
			m := chunks.Meta{MinTime: ts, Chunk: c}
			for range 120 {
				v = next(rng, v)
				app.Append(0, ts, v)
				m.MaxTime = ts
				ts += 15_000 + rng.Int64N(2*jitter+1) - jitter
			}
			all[i].Chunks = append(all[i].Chunks, m)
		}
	}
	dir = filepath.Join(t.TempDir(), "block")
	m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(1, nil), MaxTime: 9_000_000}}
	require.NoError(t, blocktest.Write(t.Context(), dir, m, all))
	for _, rel := range []string{block.IndexFile, block.SegmentName(1)} {
		info, err := os.Stat(filepath.Join(dir, rel))
		require.NoError(t, err)
		size += info.Size()
	}
	return dir, size
}

// TestWrite_SizesOfKinds holds the sizes that docs/sidecar.md gives.
func TestWrite_SizesOfKinds(t *testing.T) {
	most := map[string]float64{
		"constants": 0.95, "counters": 0.95, "slow counters": 0.96, "whole gauges": 0.95,
		"two decimals": 0.5, "many decimals": 1, "random fractions": 1,
	}
	for kind, next := range kinds() {
		for _, jitter := range []int64{0, 5} {
			dir, size := kindBlock(t, 300, jitter, next)
			var buf bytes.Buffer
			o, err := blockcolumns.Write(t.Context(), &buf, dir)
			require.NoError(t, err)
			share := float64(o.Size) / float64(size)
			t.Logf("%s, jitter of %d ms: %.2f of the bytes of the block", kind, jitter, share)
			require.LessOrEqual(t, share, most[kind], kind)
		}
	}
}

// sampledHeap counts bytes, and looks at the heap after each part of a MiB.
type sampledHeap struct{ written, most uint64 }

func (s *sampledHeap) Write(b []byte) (int, error) {
	before := s.written >> 20
	if s.written += uint64(len(b)); s.written>>20 != before {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		s.most = max(s.most, m.HeapInuse)
	}
	return len(b), nil
}

// BenchmarkWriteMemory measures the memory of the writer for each series of a large metric.
func BenchmarkWriteMemory(b *testing.B) {
	const series = 50_000
	dir, _ := kindBlock(b, series, 5, kinds()["counters"])
	for b.Loop() {
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		var s sampledHeap
		_, err := blockcolumns.Write(b.Context(), &s, dir)
		require.NoError(b, err)
		b.ReportMetric(float64(s.most-before.HeapInuse)/series, "heap-bytes/series")
	}
}
