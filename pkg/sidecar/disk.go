package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
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
// truncates the head to its end, and it accepts no sample before that afterwards,
// except out-of-order samples, which lateSamples bounds. So disk asks for the times
// before it asks for the list of blocks, and samples that are newer than all these
// bounds are read by remote read.
type disk struct {
	client  *prom.Client
	path    string
	dir     *blocks.Dir
	late    *lateSamples
	logger  *slog.Logger
	metrics *metrics

	// watch makes changes of the directory known; run calls it when the directory
	// appears. It may be nil.
	watch func()

	// stopped is the reason last logged for reading no blocks.
	stopped reason.Reason
	// present says that the directory was there when it was last looked for.
	present bool
}

func newDisk(client *prom.Client, path string, logger *slog.Logger, m *metrics) *disk {
	return &disk{
		client: client, path: path, dir: blocks.NewDir(path, logger), logger: logger, metrics: m,
		late: &lateSamples{path: filepath.Join(path, "wbl")},
	}
}

// run refreshes at every interval and after each change until ctx is cancelled. It
// calls answering after each answer of Prometheus.
func (d *disk) run(ctx context.Context, interval time.Duration, changes <-chan struct{}, answering func()) {
	defer d.dir.Close()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if d.refresh(ctx) {
			answering()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changes:
		}
	}
}

// refresh opens the blocks that Prometheus has loaded. It changes nothing and returns
// false when Prometheus does not answer.
func (d *disk) refresh(ctx context.Context) bool {
	if err := checkDataDir(d.path); err != nil {
		d.stop(reason.NoDataDirectory, err)
		d.present = false
		return false
	}
	if !d.present && d.watch != nil {
		d.watch()
	}
	d.present = true
	f, err := d.ask(ctx)
	switch {
	case hidden(err):
		d.stop(reason.BlocksNotListed, err)
	case errors.Is(err, errLateSamples):
		d.stop(reason.OutOfOrderInHead, err)
	case err != nil:
		d.late.reset()
		return false
	default:
		d.stopped = ""
		want, end := readable(f.blocks, f.bound)
		d.dir.Update(want, end)
		d.observe(len(want))
	}
	return true
}

// found is what Prometheus and its write-behind log say: the loaded blocks, and the
// time before which the head neither has a sample nor will have one, math.MaxInt64
// when nothing bounds it.
type found struct {
	blocks []prom.Block
	bound  int64
}

var errLateSamples = errors.New("out-of-order samples may have any time")

// ask asks in the order that is needed for f to be true of one moment: a sample that
// leaves the head or its log in between is in a block of the list.
func (d *disk) ask(ctx context.Context) (f found, err error) {
	window, err := d.client.OutOfOrderWindow(ctx)
	if err != nil {
		return f, err
	}
	times, err := d.client.Times(ctx)
	if err != nil {
		return f, err
	}
	late, lateErr := d.late.update(ctx, window, times)
	if f.blocks, err = d.client.Blocks(ctx); err != nil {
		return f, err
	}
	if lateErr != nil {
		return f, fmt.Errorf("%w: %w", errLateSamples, lateErr)
	}
	f.bound = late
	if times.HeadMin != math.MinInt64 {
		f.bound = min(late, times.HeadMin)
	}
	return f, nil
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
// and the blocks that begin before it. bound is the lowest time of the samples
// elsewhere, math.MaxInt64 when there are none.
func readable(loaded []prom.Block, bound int64) (want []blocks.Block, end int64) {
	end = math.MinInt64
	for _, b := range loaded {
		end = max(end, b.MaxTime)
	}
	end = min(end, bound)
	for _, b := range loaded {
		if b.MinTime < end {
			want = append(want, blocks.Block{ID: b.ULID, MinTime: b.MinTime, MaxTime: b.MaxTime})
		}
	}
	return want, end
}
