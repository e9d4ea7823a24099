package multitsdb

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/tsdb"
)

// flush writes the whole head to blocks, none of which crosses a border of the
// block duration. Writes wait meanwhile.
func (t *tenantDB) flush(ctx context.Context) error {
	t.compacting.Lock()
	defer t.compacting.Unlock()
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.closed.Load() {
		return nil
	}
	if err := t.compactUntil(ctx, math.MaxInt64); err != nil {
		return fmt.Errorf("flush the head of tenant %s: %w", t.id, err)
	}
	return nil
}

// compactUntil writes everything in the head before the time end to blocks.
func (t *tenantDB) compactUntil(ctx context.Context, end int64) error {
	head := t.db.Head()
	for head.NumSeries() > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		mint, maxt := head.MinTime(), head.MaxTime()
		if mint > maxt || mint == math.MaxInt64 || mint >= end {
			break
		}
		border := t.border(mint)
		if border > end {
			break
		}
		last := min(border-1, maxt)
		if err := t.db.CompactHead(tsdb.NewRangeHead(head, mint, last)); err != nil {
			return err
		}
		if last == maxt {
			break
		}
		if head.MinTime() <= mint {
			return errHeadStays
		}
	}
	return t.db.CompactOOOHead(ctx)
}

// maintain compacts the head of a tenant that has stopped to write, which the
// TSDB alone would keep for ever.
func (t *tenantDB) maintain(ctx context.Context, now time.Time) error {
	width := t.cfg.MinBlockDuration.Milliseconds()
	idle := now.UnixMilli()-t.lastWrite.Load() > width/2
	old := now.UnixMilli()-t.db.Head().MinTime() > width*3/2
	if !idle || !old || t.db.Head().NumSeries() == 0 {
		return nil
	}
	t.compacting.Lock()
	defer t.compacting.Unlock()
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.closed.Load() {
		return nil
	}
	end := (now.UnixMilli() - width/2) / width * width
	if err := t.compactUntil(ctx, end); err != nil {
		return fmt.Errorf("compact the idle head of tenant %s: %w", t.id, err)
	}
	return nil
}
