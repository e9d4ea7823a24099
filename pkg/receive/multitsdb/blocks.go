package multitsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

// blocksToDelete lets retention delete blocks; with a shipper only those that
// are in the bucket.
func (t *tenantDB) blocksToDelete(blocks []*tsdb.Block) map[ulid.ULID]struct{} {
	deletable := map[ulid.ULID]struct{}{}
	if t.db != nil {
		deletable = tsdb.DefaultBlocksToDelete(t.db)(blocks)
	} else {
		// The TSDB is being opened; retention waits until it is.
		for _, b := range blocks {
			if b.Meta().Compaction.Deletable {
				deletable[b.Meta().ULID] = struct{}{}
			}
		}
	}
	if t.shipper == nil {
		return deletable
	}
	uploaded := t.readUploaded()
	for id := range deletable {
		if _, ok := uploaded[id]; !ok {
			delete(deletable, id)
		}
	}
	return deletable
}

// readUploaded reads the shipper's state file: the blocks that are in the
// bucket. What cannot be read counts as not uploaded.
func (t *tenantDB) readUploaded() map[ulid.ULID]struct{} {
	b, err := os.ReadFile(filepath.Join(t.dir, "thanos.shipper.json"))
	if err != nil {
		return nil
	}
	var state struct {
		Uploaded []ulid.ULID `json:"uploaded"`
	}
	if err := json.Unmarshal(b, &state); err != nil {
		return nil
	}
	out := make(map[ulid.ULID]struct{}, len(state.Uploaded))
	for _, id := range state.Uploaded {
		out[id] = struct{}{}
	}
	return out
}

// flush writes the whole head to blocks, none of which crosses a border of the
// block duration. Writes wait meanwhile.
func (t *tenantDB) flush(ctx context.Context) error {
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.isClosed() {
		return nil
	}
	if err := t.compactUntil(ctx, math.MaxInt64); err != nil {
		return fmt.Errorf("flush the head of tenant %s: %w", t.id, err)
	}
	return nil
}

// compactUntil writes everything in the head before the time end to blocks.
func (t *tenantDB) compactUntil(ctx context.Context, end int64) error {
	head, width := t.db.Head(), t.cfg.MinBlockDuration.Milliseconds()
	for head.NumSeries() > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		mint, maxt := head.MinTime(), head.MaxTime()
		if mint > maxt || mint == math.MaxInt64 || mint >= end {
			break
		}
		border := (mint/width + 1) * width
		if mint < 0 {
			border = mint / width * width
		}
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
			return errors.New("the head did not shrink")
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
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.isClosed() {
		return nil
	}
	end := (now.UnixMilli() - width/2) / width * width
	if err := t.compactUntil(ctx, end); err != nil {
		return fmt.Errorf("compact the idle head of tenant %s: %w", t.id, err)
	}
	return nil
}

// prunable says that nothing of the tenant is needed here any more: its newest
// sample is older than the retention, and everything is in the bucket.
func (t *tenantDB) prunable(now time.Time) bool {
	if t.cfg.Retention <= 0 || t.db.Head().NumSeries() > 0 {
		return false
	}
	horizon := now.Add(-t.cfg.Retention).UnixMilli()
	if t.lastWrite.Load() > now.Add(-t.cfg.Retention).UnixMilli() {
		return false
	}
	uploaded := t.readUploaded()
	for _, b := range t.db.Blocks() {
		if b.Meta().MaxTime > horizon {
			return false
		}
		if _, ok := uploaded[b.Meta().ULID]; t.shipper != nil && !ok {
			return false
		}
	}
	return true
}
