package multitsdb

import (
	"context"
	"fmt"
	"time"
)

// flush writes the whole head to blocks. Writes wait meanwhile.
func (t *tenantDB) flush(ctx context.Context) error {
	if err := t.head.Flush(ctx); err != nil {
		return fmt.Errorf("flush the head of tenant %s: %w", t.id, err)
	}
	return nil
}

// compact writes what is old enough in the head to blocks: with writes going on,
// and for a tenant that is not written to any more, whose head the TSDB would keep
// for ever.
func (t *tenantDB) compact(ctx context.Context, now time.Time) error {
	if err := t.head.Compact(ctx); err != nil {
		return fmt.Errorf("tenant %s: %w", t.id, err)
	}
	width := t.cfg.MinBlockDuration.Milliseconds()
	idle := now.UnixMilli()-t.lastWrite.Load() > width/2
	old := now.UnixMilli()-t.db.Head().MinTime() > width*3/2
	if !idle || !old || t.db.Head().NumSeries() == 0 {
		return nil
	}
	if err := t.head.CompactBefore(ctx, (now.UnixMilli()-width/2)/width*width); err != nil {
		return fmt.Errorf("compact the idle head of tenant %s: %w", t.id, err)
	}
	return nil
}
