package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/hindsight-io/hindsight/pkg/sidecar/blocks"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
)

// disk reads what Prometheus has persisted without asking Prometheus.
//
// Everything before the lowest time in the head, and before the end of the last
// block, is in blocks: when Prometheus cuts a block it first loads it and then
// truncates the head to its end, and it takes no sample before that any more.
// So the times are asked before the list of blocks, and what is newer than both
// is left to remote read. Samples out of order break that rule, as they wait in
// the head for any time in the past; while there are any, nothing is read
// directly.
type disk struct {
	client  *prom.Client
	path    string
	dir     *blocks.Dir
	logger  *slog.Logger
	metrics *metrics

	// why is the reason last logged for not reading directly.
	why string
}

func newDisk(client *prom.Client, path string, logger *slog.Logger, m *metrics) *disk {
	return &disk{client: client, path: path, dir: blocks.NewDir(path, logger), logger: logger, metrics: m}
}

// run follows Prometheus, at every interval and when something changed, until
// ctx is cancelled.
func (d *disk) run(ctx context.Context, interval time.Duration, changes <-chan struct{}) {
	defer d.dir.Close()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		d.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changes:
		}
	}
}

// refresh opens the blocks that Prometheus has loaded. When Prometheus does not
// answer everything stays as it is.
func (d *disk) refresh(ctx context.Context) {
	if err := checkDataDir(d.path); err != nil {
		d.stop("there is no data directory", err)
		return
	}
	pending, err := outOfOrder(d.path)
	if err != nil || pending {
		d.stop("samples out of order wait in the head", err)
		return
	}
	times, err := d.client.Times(ctx)
	var loaded []prom.Block
	if err == nil {
		loaded, err = d.client.Blocks(ctx)
	}
	if hidden(err) {
		d.stop("Prometheus does not tell which blocks it has loaded, or where its head begins", err)
		return
	}
	if err != nil {
		return
	}
	d.why = ""
	want, end := readable(loaded, times.HeadMin)
	d.dir.Update(want, end)
	d.observe(len(want))
}

// stop closes the blocks and leaves everything to Prometheus.
func (d *disk) stop(why string, err error) {
	if d.why != why {
		d.logger.Info("asking prometheus for everything, not reading its blocks", "because", why, "err", err)
		d.why = why
	}
	d.dir.Close()
	d.observe(0)
}

func (d *disk) observe(n int) {
	d.metrics.directBlocks.Set(float64(n))
	if v := d.dir.Acquire(); v != nil {
		d.metrics.directEnd.Set(float64(v.End()) / 1000)
		v.Release()
	}
}

// readable returns the loaded blocks that have anything before end, and end: the
// time before which they have every sample. headMin is math.MinInt64 when the
// head is empty.
func readable(loaded []prom.Block, headMin int64) (want []blocks.Block, end int64) {
	end = math.MinInt64
	for _, b := range loaded {
		end = max(end, b.MaxTime)
	}
	if headMin != math.MinInt64 {
		end = min(end, headMin)
	}
	for _, b := range loaded {
		if b.MinTime < end {
			want = append(want, blocks.Block{ID: b.ULID, MinTime: b.MinTime, MaxTime: b.MaxTime})
		}
	}
	return want, end
}

// outOfOrder says whether the log of samples out of order has any.
func outOfOrder(path string) (bool, error) {
	segments, err := os.ReadDir(filepath.Join(path, "wbl"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for samples out of order: %w", err)
	}
	for _, e := range segments {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // truncated just now
		}
		if err != nil {
			return false, fmt.Errorf("look for samples out of order: %w", err)
		}
		if info.Size() > 0 {
			return true, nil
		}
	}
	return false, nil
}
