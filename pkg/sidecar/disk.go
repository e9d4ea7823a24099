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

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/sidecar/blocks"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
)

// disk reads the persisted blocks of Prometheus from its data directory.
//
// All samples before the lowest time in the head, and before the end of the last
// block, are in blocks: when Prometheus cuts a block it first loads it and then
// truncates the head to its end, and it accepts no sample before that afterwards.
// So disk asks for the times before it asks for the list of blocks, and samples
// newer than both are read by remote read. Out-of-order samples in the head may
// have any time in the past; while there are any, disk reads no blocks.
type disk struct {
	client  *prom.Client
	path    string
	dir     *blocks.Dir
	logger  *slog.Logger
	metrics *metrics

	// stopped is the reason last logged for reading no blocks.
	stopped reason.Reason
}

func newDisk(client *prom.Client, path string, logger *slog.Logger, m *metrics) *disk {
	return &disk{client: client, path: path, dir: blocks.NewDir(path, logger), logger: logger, metrics: m}
}

// run refreshes at every interval and after each change until ctx is cancelled.
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

// refresh opens the blocks that Prometheus has loaded. It changes nothing when
// Prometheus does not answer.
func (d *disk) refresh(ctx context.Context) {
	if err := checkDataDir(d.path); err != nil {
		d.stop(reason.NoDataDirectory, err)
		return
	}
	pending, err := outOfOrder(d.path)
	if err != nil || pending {
		d.stop(reason.OutOfOrderInHead, err)
		return
	}
	times, err := d.client.Times(ctx)
	var loaded []prom.Block
	if err == nil {
		loaded, err = d.client.Blocks(ctx)
	}
	if hidden(err) {
		d.stop(reason.BlocksNotListed, err)
		return
	}
	if err != nil {
		return
	}
	d.stopped = ""
	want, end := readable(loaded, times.HeadMin)
	d.dir.Update(want, end)
	d.observe(len(want))
}

// stop closes the blocks; all requests go to Prometheus.
func (d *disk) stop(why reason.Reason, err error) {
	if d.stopped != why {
		d.logger.Info("direct reads of blocks stopped", "reason", why, "err", err)
		d.stopped = why
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

// readable returns end, the time before which the loaded blocks have every sample,
// and the blocks that begin before it. headMin is math.MinInt64 when the head is
// empty.
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

// outOfOrder says whether the write-behind log has out-of-order samples.
func outOfOrder(path string) (bool, error) {
	segments, err := os.ReadDir(filepath.Join(path, "wbl"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for out-of-order samples: %w", err)
	}
	for _, e := range segments {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // truncated just now
		}
		if err != nil {
			return false, fmt.Errorf("look for out-of-order samples: %w", err)
		}
		if info.Size() > 0 {
			return true, nil
		}
	}
	return false, nil
}
