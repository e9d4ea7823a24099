package compact_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// peakHeap is the most memory of the heap in use, garbage included, while f runs.
func peakHeap(f func()) uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	before, peak := s.HeapInuse, uint64(0)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(5 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				var s runtime.MemStats
				runtime.ReadMemStats(&s)
				peak = max(peak, s.HeapInuse)
			}
		}
	}()
	f()
	close(done)
	<-ended
	if peak < before {
		return 0
	}
	return peak - before
}

// A block of ten times the series is downsampled in the same memory.
func TestRunOnce_DownsamplesLargeBlockInSameMemory(t *testing.T) {
	l := load{series: 1, length: 48 * time.Hour, interval: 3_600_000, replicas: 1, blocks: 1}
	chks := l.block(0, l.length.Milliseconds(), 0)[0].Chunks
	peak := func(series int) uint64 {
		root := t.TempDir()
		b, err := provider.Open(context.Background(), []byte(fmt.Sprintf("type: FILESYSTEM\nconfig:\n  directory: %s\n", root)), nil, nil)
		require.NoError(t, err)
		m := &block.Meta{}
		m.ULID, m.MaxTime = blocktest.ID("large"), l.length.Milliseconds()
		m.Thanos.Labels, m.Thanos.Source = map[string]string{"cluster": "eu"}, block.SourceSidecar
		func() {
			r := rand.New(rand.NewPCG(6, 6))
			list := make([]blocktest.Series, series)
			for i := range list {
				list[i].Labels = labels.FromStrings("__name__", fmt.Sprintf("m%06d", i/50), "i", fmt.Sprintf("%03d-%d", i%50, r.IntN(10)), "job", "x")
				list[i].Chunks = append([]chunks.Meta(nil), chks...)
			}
			dir := filepath.Join(t.TempDir(), m.ULID.String())
			require.NoError(t, blocktest.Write(context.Background(), dir, m, list))
			_, err := block.Upload(context.Background(), b, dir, block.UploadConfig{})
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(dir))
		}()
		c, err := compact.New(config(t), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		used := peakHeap(func() { require.NoError(t, c.RunOnce(context.Background())) })
		require.Len(t, poll(t, b).Metas, 2)
		return used
	}
	small, large := peak(5_000), peak(50_000)
	t.Logf("%.1f MiB and %.1f MiB of heap", float64(small)/(1<<20), float64(large)/(1<<20))
	require.Less(t, large, 2*small+32<<20)
	require.Less(t, large, uint64(100<<20))
}
