// Package headcompact writes the head of a TSDB to blocks while writes go on. The
// TSDB's own compaction is switched off, and the same steps are done here, with
// writes kept out at two moments at which it would lose samples that are being
// written (docs/decisions/0003-compaction-and-writes.md).
package headcompact

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
)

// Config of a Head.
type Config struct {
	// BlockDuration is the duration of the blocks that the head is cut into.
	// Blocks are merged up to MaxBlockDuration.
	BlockDuration, MaxBlockDuration time.Duration
	// Pause observes how long writes were kept waiting, in seconds.
	Pause prometheus.Observer
}

// Head coordinates the writes to a TSDB, the compactions of its head and its
// closing. Its methods may be called concurrently after Attach.
type Head struct {
	cfg       Config
	db        *tsdb.DB
	compactor *compactor
	abort     context.CancelFunc // of what the compactor does

	// compacting is held while a part of the head is compacted; it is locked before
	// gate.
	compacting sync.Mutex
	// gate is held for reading by writes, and for writing while they are kept out.
	gate   sync.RWMutex
	closed atomic.Bool // changes under both
}

// New returns a Head for a TSDB that is opened with the compactor of NewCompactor
// and then given to Attach.
func New(cfg Config) *Head { return &Head{cfg: cfg} }

// Attach sets the TSDB, whose own compactions it switches off.
func (h *Head) Attach(db *tsdb.DB) {
	h.db = db
	db.DisableCompactions()
}

// BeginWrite reports whether a write may begin: not after CloseIf has closed the
// TSDB. If so, nothing is flushed or closed until EndWrite.
func (h *Head) BeginWrite() bool {
	h.gate.RLock()
	if h.closed.Load() {
		h.gate.RUnlock()
		return false
	}
	return true
}

// EndWrite ends a write that BeginWrite has begun.
func (h *Head) EndWrite() { h.gate.RUnlock() }

// Abort ends compactions that are under way; they fail.
func (h *Head) Abort() { h.abort() }

// CloseIf calls closeDB if the condition holds at a moment without a write, after
// which there are neither writes nor compactions. It reports whether it did. While a
// compaction is under way it does nothing: the compaction may wait for the end of
// a query, which may need the TSDB once more before it ends.
func (h *Head) CloseIf(condition func() bool, closeDB func() error) (bool, error) {
	if !h.compacting.TryLock() {
		return false, nil
	}
	defer h.compacting.Unlock()
	return h.closeIf(condition, closeDB)
}

// Close calls closeDB once no write or compaction is under way. It reports whether it
// did, which is false if the TSDB is closed already. No query may wait for it to
// end; Abort shortens the time.
func (h *Head) Close(closeDB func() error) (bool, error) {
	h.compacting.Lock()
	defer h.compacting.Unlock()
	return h.closeIf(func() bool { return true }, closeDB)
}

// closeIf does the work of CloseIf. The caller holds compacting.
func (h *Head) closeIf(condition func() bool, closeDB func() error) (bool, error) {
	h.gate.Lock()
	defer h.gate.Unlock()
	if h.closed.Load() || !condition() {
		return false, nil
	}
	h.closed.Store(true)
	return true, closeDB()
}

// due reports whether the head spans more than one and a half block durations.
func (h *Head) due() bool {
	head := h.db.Head()
	mint, maxt := head.MinTime(), head.MaxTime()
	return mint != math.MaxInt64 && maxt-mint > h.cfg.BlockDuration.Milliseconds()/2*3
}

// Compact writes what is old enough in the head to blocks, and then the
// out-of-order samples, while writes go on.
func (h *Head) Compact(ctx context.Context) error {
	h.compacting.Lock()
	defer h.compacting.Unlock()
	cut := false
	for ; !h.closed.Load() && h.due(); cut = true {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := h.compactFirst(); err != nil {
			return fmt.Errorf("compact the head: %w", err)
		}
	}
	if cut {
		if err := h.compactOutOfOrder(ctx); err != nil {
			return fmt.Errorf("compact the out-of-order samples: %w", err)
		}
	}
	if !h.closed.Load() && h.cfg.MaxBlockDuration > h.cfg.BlockDuration {
		if err := h.compactBlocks(ctx); err != nil {
			return fmt.Errorf("compact the blocks: %w", err)
		}
	}
	return nil
}

// Flush writes the whole head to blocks, none of which crosses a border of the
// block duration. Writes wait meanwhile. A closed TSDB has nothing to flush.
func (h *Head) Flush(ctx context.Context) error { return h.CompactBefore(ctx, math.MaxInt64) }

// CompactBefore is Flush for what is in the head before a time in Unix
// milliseconds, which is a border of the block duration, and for all out-of-order
// samples.
func (h *Head) CompactBefore(ctx context.Context, end int64) error {
	h.compacting.Lock()
	defer h.compacting.Unlock()
	h.gate.Lock()
	defer h.gate.Unlock()
	if h.closed.Load() {
		return nil
	}
	head := h.db.Head()
	for head.NumSeries() > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		mint, maxt := head.MinTime(), head.MaxTime()
		if mint > maxt || mint == math.MaxInt64 || mint >= end {
			break
		}
		border := h.border(mint)
		if border > end {
			break
		}
		last := min(border-1, maxt)
		if err := h.db.CompactHead(tsdb.NewRangeHead(head, mint, last)); err != nil {
			return err
		}
		if last == maxt {
			break
		}
		if head.MinTime() <= mint {
			return errHeadStays
		}
	}
	return h.db.CompactOOOHead(ctx)
}

// compactFirst writes the first block duration of the head to a block.
func (h *Head) compactFirst() error {
	head := h.db.Head()
	mint := head.MinTime()
	end := h.border(mint)
	// A write that began when the head was shorter may still bring samples for
	// that time; one that begins now may not. Keeping writes out for a moment waits
	// for the former.
	h.keepOut()()
	if err := h.db.CompactHead(tsdb.NewRangeHeadWithIsolationDisabled(head, mint, end-1)); err != nil {
		return err
	}
	if head.MinTime() <= mint {
		return errHeadStays
	}
	return nil
}

// keepOut waits for writes under way and keeps others out until letIn is called.
func (h *Head) keepOut() (letIn func()) {
	h.gate.Lock()
	began := time.Now()
	return sync.OnceFunc(func() {
		h.gate.Unlock()
		h.cfg.Pause.Observe(time.Since(began).Seconds())
	})
}

// compactOutOfOrder writes all out-of-order samples to blocks. The TSDB goes
// through the series, notes which have such samples, and remembers the last chunk
// of any: all chunks before it are deleted at the end, also one that a series got
// after it was looked at. So writes are kept out until that is over and the first
// block begins.
func (h *Head) compactOutOfOrder(ctx context.Context) error {
	letIn := h.keepOut()
	defer letIn()
	if head := h.db.Head(); h.closed.Load() || head.MinOOOTime() > head.MaxOOOTime() {
		return nil
	}
	h.compactor.begin.Store(&beginning{do: letIn})
	defer h.compactor.begin.Store(nil)
	return h.db.CompactOOOHead(ctx)
}

// compactBlocks merges blocks. If the TSDB finds that the head has to be compacted
// first, it is stopped: the next Compact does that.
func (h *Head) compactBlocks(ctx context.Context) error {
	h.compactor.begin.Store(&beginning{err: errHeadFirst})
	defer h.compactor.begin.Store(nil)
	if err := h.db.Compact(ctx); !errors.Is(err, errHeadFirst) {
		return err
	}
	return nil
}

// border returns the end of the block duration that a time is in, which is after
// it.
func (h *Head) border(at int64) int64 {
	width := h.cfg.BlockDuration.Milliseconds()
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
