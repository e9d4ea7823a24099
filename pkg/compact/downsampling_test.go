package compact_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// longBlock is a block that is long enough for 5m data.
const longBlock = `
block long range=0h..48h labels={cluster="eu"}
  up 0m..2880m/5m:1+1
`

// watchedDisk measures the files of a directory at each read and upload.
type watchedDisk struct {
	bucket.Bucket
	dir  string
	mu   sync.Mutex
	peak int64
}

func (w *watchedDisk) measure() {
	used := int64(0)
	_ = filepath.WalkDir(w.dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				used += info.Size()
			}
		}
		return nil // a file may vanish meanwhile
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peak = max(w.peak, used)
}

func (w *watchedDisk) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	w.measure()
	return w.Bucket.GetRange(ctx, name, off, length)
}

func (w *watchedDisk) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	w.measure()
	return w.Bucket.Upload(ctx, name, r, size)
}

// TestDownsample_HasNoCopyOfItsInput compares what a job has on the disk with the input
// and the result.
func TestDownsample_HasNoCopyOfItsInput(t *testing.T) {
	b := bucket.NewMemory()
	load{series: 300, length: 48 * time.Hour, interval: 15_000, replicas: 1, blocks: 1}.fill(t, b)
	size := func() (n int64) {
		for _, m := range poll(t, b).Metas {
			for _, f := range m.Thanos.Files {
				n += f.SizeBytes
			}
		}
		return n
	}
	input := size()
	cfg := config(t)
	w := &watchedDisk{Bucket: b, dir: filepath.Join(cfg.DataDir, "compact")}
	c, err := compact.New(cfg, compact.Deps{Bucket: w, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, c.RunOnce(context.Background()))
	require.Contains(t, fmt.Sprint(live(t, b)), "0..48h res=5")
	output := size() - input
	t.Logf("input %d bytes, output %d, at most %d on the disk", input, output, w.peak)
	require.Less(t, output, input/2)
	// The writer of the index has files of its own until it is done.
	require.LessOrEqual(t, w.peak, output+input/100)
	require.Positive(t, w.peak)
}

// TestDownsample_BlamesDamageOnly has a block that is damaged in the bucket, one that is
// damaged once on its way, and a local file that is removed.
func TestDownsample_BlamesDamageOnly(t *testing.T) {
	id := blocktest.ID("long")
	run := func(b, seen bucket.Bucket, cfg compact.Config, want map[string]string, text string) {
		t.Helper()
		reg := prometheus.NewRegistry()
		c, err := compact.New(cfg, compact.Deps{Bucket: seen, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
		require.NoError(t, err)
		require.ErrorContains(t, c.RunOnce(context.Background()), text)
		require.Equal(t, want, quarantined(t, reg))
		require.Len(t, poll(t, b).Metas, 1)
		require.NoError(t, c.RunOnce(context.Background()))
		require.Equal(t, len(want) == 0, strings.Contains(fmt.Sprint(live(t, b)), "0..48h res=5"))
	}
	b := blocktest.Bucket(t, longBlock)
	change(t, b, id, block.SegmentName(1), func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
	run(b, b, config(t), map[string]string{id.String(): "chunk_corrupt"}, "checksum")

	b = blocktest.Bucket(t, longBlock)
	run(b, buckettest.NewFaulty(b, flipOnce(block.Path(id, block.IndexFile))), config(t), map[string]string{}, "but not in the bucket")

	b = blocktest.Bucket(t, longBlock)
	cfg := config(t)
	rb := &removing{Bucket: b, dir: cfg.DataDir, last: block.Path(id, block.SegmentName(1))}
	run(b, rb, cfg, map[string]string{}, "in the work directory")
	require.True(t, rb.done.Load())
}
