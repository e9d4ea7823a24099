package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// The TSDB's own compaction is switched off, and the same steps are done here, with
// writes kept out at two moments at which it would lose samples that come in just
// then (docs/decisions/0003-compaction-and-writes.md).

// compactor is the TSDB's, which asks before it writes a block.
type compactor struct {
	tsdb.Compactor
	begin atomic.Pointer[func() error]
}

// Write implements tsdb.Compactor.
func (c *compactor) Write(dest string, b tsdb.BlockReader, mint, maxt int64, base *tsdb.BlockMeta) ([]ulid.ULID, error) {
	if begin := c.begin.Load(); begin != nil {
		if err := (*begin)(); err != nil {
			return nil, err
		}
	}
	return c.Compactor.Write(dest, b, mint, maxt, base)
}

// newCompactor makes the compactor of the tenant's TSDB.
func (t *tenantDB) newCompactor() tsdb.NewCompactorFunc {
	return func(ctx context.Context, reg prometheus.Registerer, logger *slog.Logger, ranges []int64, pool chunkenc.Pool, opts *tsdb.Options) (tsdb.Compactor, error) {
		ctx, t.abort = context.WithCancel(ctx)
		c, err := tsdb.NewLeveledCompactorWithOptions(ctx, reg, logger, ranges, pool, tsdb.LeveledCompactorOptions{
			MaxBlockChunkSegmentSize:    opts.MaxBlockChunkSegmentSize,
			EnableOverlappingCompaction: opts.EnableOverlappingCompaction,
			FloatChunkEncoding:          func() chunkenc.Encoding { return opts.FloatChunkEncoding },
		})
		if err != nil {
			return nil, err
		}
		t.compactor = &compactor{Compactor: c}
		return t.compactor, nil
	}
}

// withoutSwitch is a handler that leaves out what the TSDB says when its
// compactions are switched off, which sounds as if there were none.
type withoutSwitch struct{ slog.Handler }

// Handle implements slog.Handler.
func (h withoutSwitch) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "Compactions disabled" {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h withoutSwitch) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withoutSwitch{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h withoutSwitch) WithGroup(name string) slog.Handler {
	return withoutSwitch{h.Handler.WithGroup(name)}
}

// compactable says that the head spans more than one and a half block durations.
func (t *tenantDB) compactable() bool {
	head := t.db.Head()
	mint, maxt := head.MinTime(), head.MaxTime()
	return mint != math.MaxInt64 && maxt-mint > t.cfg.MinBlockDuration.Milliseconds()/2*3
}

// compact writes what is old enough in the head to blocks, and then late samples,
// while writes go on.
func (t *tenantDB) compact(ctx context.Context) error {
	t.compacting.Lock()
	defer t.compacting.Unlock()
	cut := false
	for ; !t.closed.Load() && t.compactable(); cut = true {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.compactFirst(); err != nil {
			return fmt.Errorf("compact the head of tenant %s: %w", t.id, err)
		}
	}
	if cut {
		if err := t.compactLate(ctx); err != nil {
			return fmt.Errorf("compact the late samples of tenant %s: %w", t.id, err)
		}
	}
	if t.cfg.MaxBlockDuration > t.cfg.MinBlockDuration {
		if err := t.compactBlocks(ctx); err != nil {
			return fmt.Errorf("compact the blocks of tenant %s: %w", t.id, err)
		}
	}
	return nil
}

// compactFirst writes the first block duration of the head to a block.
func (t *tenantDB) compactFirst() error {
	head := t.db.Head()
	mint := head.MinTime()
	end := t.border(mint)
	// A write that began when the head was shorter may still bring samples for
	// that time; one that begins now may not. The former end here.
	t.waits()()
	if err := t.db.CompactHead(tsdb.NewRangeHeadWithIsolationDisabled(head, mint, end-1)); err != nil {
		return err
	}
	if head.MinTime() <= mint {
		return errHeadStays
	}
	return nil
}

// waits is called for what is done while writes are kept out.
func (t *tenantDB) waits() (over func()) {
	t.gate.Lock()
	began := time.Now()
	return sync.OnceFunc(func() {
		t.gate.Unlock()
		t.metrics.pause.Observe(time.Since(began).Seconds())
	})
}

// compactLate writes all late samples to blocks. The TSDB goes through the series,
// notes which have late samples, and remembers the last chunk of any: all chunks
// before it are deleted at the end, also one that a series got after it was looked
// at. So nothing is written until that is over, and the first block begins.
func (t *tenantDB) compactLate(ctx context.Context) error {
	over := t.waits()
	defer over()
	if head := t.db.Head(); t.closed.Load() || head.MinOOOTime() > head.MaxOOOTime() {
		return nil
	}
	begin := func() error { over(); return nil }
	t.compactor.begin.Store(&begin)
	defer t.compactor.begin.Store(nil)
	return t.db.CompactOOOHead(ctx)
}

// compactBlocks merges blocks. Should the TSDB find that the head has to be
// compacted first, it is stopped: that is for the next round.
func (t *tenantDB) compactBlocks(ctx context.Context) error {
	stop := func() error { return errHeadFirst }
	t.compactor.begin.Store(&stop)
	defer t.compactor.begin.Store(nil)
	if err := t.db.Compact(ctx); !errors.Is(err, errHeadFirst) {
		return err
	}
	return nil
}

// border is the end of the block duration that a time is in, which is after it.
func (t *tenantDB) border(at int64) int64 {
	width := t.cfg.MinBlockDuration.Milliseconds()
	begin := at / width * width
	if begin > at {
		begin -= width // the division rounds towards 0
	}
	return begin + width
}

var (
	errHeadStays = errors.New("the head did not shrink")
	errHeadFirst = errors.New("the head has to be compacted first")
)
