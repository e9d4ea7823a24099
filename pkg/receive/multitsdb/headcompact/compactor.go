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
// switched off, which reads as if there were none. It calls lost, in the goroutine of the
// commit, when out-of-order samples could not be logged: the TSDB logs that error and
// commits without one.
func Logger(l *slog.Logger, lost func()) *slog.Logger {
	return slog.New(tsdbHandler{l.Handler(), lost})
}

type tsdbHandler struct {
	slog.Handler
	lost func()
}

// Handle implements slog.Handler.
func (h tsdbHandler) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "Compactions disabled":
		return nil
	case "Failed to log out of order samples into the WAL":
		h.lost()
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h tsdbHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tsdbHandler{h.Handler.WithAttrs(attrs), h.lost}
}

// WithGroup implements slog.Handler.
func (h tsdbHandler) WithGroup(name string) slog.Handler {
	return tsdbHandler{h.Handler.WithGroup(name), h.lost}
}
