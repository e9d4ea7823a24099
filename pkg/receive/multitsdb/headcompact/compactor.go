package headcompact

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// compactor is the TSDB's, with something to do before it writes a block.
type compactor struct {
	tsdb.Compactor
	begin atomic.Pointer[beginning]
}

// beginning is what happens before a block is written.
type beginning struct {
	do  func() // nil is nothing
	err error  // if any, the block is not written
}

// Write implements tsdb.Compactor.
func (c *compactor) Write(dest string, r tsdb.BlockReader, mint, maxt int64, base *tsdb.BlockMeta) ([]ulid.ULID, error) {
	if b := c.begin.Load(); b != nil {
		if b.do != nil {
			b.do()
		}
		if b.err != nil {
			return nil, b.err
		}
	}
	return c.Compactor.Write(dest, r, mint, maxt, base)
}

// NewCompactor returns the function of tsdb.Options that makes the compactor.
func (h *Head) NewCompactor() tsdb.NewCompactorFunc {
	return func(ctx context.Context, reg prometheus.Registerer, logger *slog.Logger, ranges []int64, pool chunkenc.Pool, opts *tsdb.Options) (tsdb.Compactor, error) {
		ctx, h.abort = context.WithCancel(ctx)
		c, err := tsdb.NewLeveledCompactorWithOptions(ctx, reg, logger, ranges, pool, tsdb.LeveledCompactorOptions{
			MaxBlockChunkSegmentSize:    opts.MaxBlockChunkSegmentSize,
			EnableOverlappingCompaction: opts.EnableOverlappingCompaction,
			FloatChunkEncoding:          func() chunkenc.Encoding { return opts.FloatChunkEncoding },
		})
		if err != nil {
			return nil, err
		}
		h.compactor = &compactor{Compactor: c}
		return h.compactor, nil
	}
}

// Logger returns a logger for the TSDB without its line on compactions that are
// switched off, which reads as if there were none.
func Logger(l *slog.Logger) *slog.Logger { return slog.New(withoutSwitch{l.Handler()}) }

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
