package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/dirlock"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/server"
	"github.com/hindsight-io/hindsight/pkg/store"
)

// storeCommand adds the command of the store gateway.
func storeCommand(app *kingpin.Application) command {
	cmd := app.Command("store", "Serves the blocks of a bucket over StoreAPI.")
	role := roleConfig{heapFloor: gatewayHeapFloor}
	var c store.Config
	var e query.EvaluationConfig
	role.register(cmd, true)
	role.registerBucket(cmd)
	c.RegisterFlags(cmd)
	e.RegisterFlags(cmd)
	return command{name: "store", run: func(ctx context.Context, s streams) error {
		if err := errors.Join(c.Validate(), e.Validate()); err != nil {
			return err
		}
		return runRole(ctx, &role, s, func(ctx context.Context, p *process) (server.Component, error) {
			p.showStatus(cmd)
			bkt, err := p.requiredBucket(ctx)
			if err != nil {
				return nil, err
			}
			if c.UsesDataDir() {
				if err := p.lock(dirlock.Part, c.DataDir, "store"); err != nil {
					return nil, err
				}
			}
			g, err := store.New(c, store.Deps{
				Logger: p.logger, Registerer: p.registry, Bucket: bkt, Poller: newHintedPoller(p, bkt, c.MetaFetchConcurrency),
				Marks: bkt, Evaluates: e.Settings(),
				MarkGuard: compact.MarkGuard(bkt, func(ctx context.Context) (time.Time, error) { return headrecovery.Now(ctx, bkt) }, p.logger),
			})
			if err != nil || !e.Enabled {
				return g, err
			}
			return newEvaluatingGateway(p, g, e.Query())
		})
	}}
}

// maxIndexAge bounds the age of a block index that is used.
const maxIndexAge = 7 * 24 * time.Hour

// hintedPoller starts with the block index of the compactor, which is one GET. It
// reads the index at the first poll, when the process is listening already; the
// listing that follows adds the changes since then.
type hintedPoller struct {
	*blocklist.Poller
	logger *slog.Logger
	hint   sync.Once
}

func newHintedPoller(p *process, bkt bucket.Bucket, concurrency int) *hintedPoller {
	return &hintedPoller{
		Poller: blocklist.NewPoller(bkt, blocklist.Config{Concurrency: concurrency, Logger: p.logger, Registerer: p.registry}),
		logger: p.logger,
	}
}

// Poll implements store.Poller.
func (h *hintedPoller) Poll(ctx context.Context) (*blocklist.View, error) {
	h.hint.Do(func() {
		if _, err := h.ReadIndex(ctx, maxIndexAge); err != nil && !errors.Is(err, blocklist.ErrNoIndex) {
			h.logger.Warn("block index not read", "err", err)
		}
	})
	return h.Poller.Poll(ctx)
}

// terminal returns w if it is a terminal, else nil.
func terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}

// receiveCommand adds the command of receive.
func receiveCommand(app *kingpin.Application) command {
	cmd := app.Command("receive", "Accepts remote write on a hash ring with replication, stores per tenant, ships blocks.")
	var role roleConfig
	var c receive.Config
	role.register(cmd, true)
	role.registerBucket(cmd)
	c.RegisterFlags(cmd)
	return command{name: "receive", run: func(ctx context.Context, s streams) error {
		if err := c.Validate(); err != nil {
			return err
		}
		return runRole(ctx, &role, s, func(ctx context.Context, p *process) (server.Component, error) {
			p.showStatus(cmd)
			bkt, err := p.bucket(ctx)
			if err != nil {
				return nil, err
			}
			if err := p.lock(dirlock.Whole, c.TSDB.Path, "receive"); err != nil {
				return nil, err
			}
			return receive.New(c, receive.Deps{
				Logger: p.logger, Registerer: p.registry, Bucket: bkt, GRPCAddress: role.server.GRPCAddress,
				GRPCTLS: role.server.GRPCTLS(),
			})
		})
	}}
}

// compactCommand adds the command of the compactor, with --dry-run.
func compactCommand(app *kingpin.Application) command {
	cmd := app.Command("compact", "Merges, deduplicates, downsamples and expires the blocks of a bucket.")
	var role roleConfig
	var c compact.Config
	role.register(cmd, false)
	role.registerBucket(cmd)
	c.RegisterFlags(cmd)
	return command{name: "compact", run: func(ctx context.Context, s streams) error {
		if err := c.Validate(); err != nil {
			return err
		}
		return runRole(ctx, &role, s, func(ctx context.Context, p *process) (server.Component, error) {
			p.showStatus(cmd)
			bkt, err := p.requiredBucket(ctx)
			if err != nil {
				return nil, err
			}
			// A dry run does not use the directory, so it may run beside a compactor.
			if !c.DryRun {
				if err := p.lock(dirlock.Part, c.DataDir, "compact"); err != nil {
					return nil, err
				}
			}
			return compact.New(c, compact.Deps{Logger: p.logger, Registerer: p.registry, Bucket: bkt, Out: s.out, Terminal: terminal(s.err)})
		})
	}}
}
