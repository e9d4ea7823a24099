package compact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/relabel"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/headerbundle"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Deps are what the process provides to a compactor.
type Deps struct {
	// Logger may be nil.
	Logger *slog.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
	// Bucket is closed by the caller.
	Bucket bucket.Bucket
	// Out receives the plan of a dry run; nil discards it.
	Out io.Writer
	// Only chooses the jobs of plans that are carried out; nil takes all.
	Only func(*plan.Job) bool
	// FS has the work directory; nil is that of the operating system. Downloads of jobs
	// that rewrite a block, and the indexes that are read again, do not go through it.
	FS vfs.FS
	// Terminal gets a progress bar during a run without Config.Wait; nil has none.
	Terminal io.Writer
}

// maxIndexAge is the age up to which a block index is used.
const maxIndexAge = 7 * 24 * time.Hour

// Compactor is the component.
type Compactor struct {
	cfg      Config
	policy   plan.Policy
	selector []*relabel.Config
	bkt      bucket.Bucket
	out      io.Writer
	terminal io.Writer
	only     func(*plan.Job) bool
	log      *slog.Logger
	metrics  *metrics
	poller   *blocklist.Poller
	fs       vfs.FS
	work     string
	headers  *headerbundle.Writer
	leases   *lease.Manager

	quarantined quarantine
	survey      survey
	// rules are those of --retention.config.
	rules                atomic.Pointer[[]plan.RetentionRule]
	cleanWork, readIndex sync.Once
	progress             progress
	// seen is the last view of the bucket.
	seen atomic.Pointer[blocklist.View]

	reportedMu sync.Mutex
	reported   map[ulid.ULID]badBlock // blocks with an invalid meta.json, which were logged
}

// New makes a compactor. It does not read the bucket before Run.
func New(cfg Config, deps Deps) (*Compactor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	selector, err := cfg.selector()
	if err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Out == nil {
		deps.Out = io.Discard
	}
	if deps.FS == nil {
		deps.FS = vfs.OS()
	}
	m := newMetrics(deps.Registerer)
	c := &Compactor{
		cfg: cfg, policy: cfg.policy(), selector: selector, bkt: fenced{deps.Bucket}, out: deps.Out, terminal: deps.Terminal, only: deps.Only, log: deps.Logger, metrics: m,
		poller: blocklist.NewPoller(deps.Bucket, blocklist.Config{
			Concurrency: cfg.MetaConcurrency, Logger: deps.Logger, Registerer: deps.Registerer,
		}),
		fs:      deps.FS,
		work:    filepath.Join(cfg.DataDir, "compact"),
		headers: headerbundle.NewWriter(deps.Bucket),
		leases: lease.New(lease.Config{
			Bucket: deps.Bucket, Duration: cfg.LeaseDuration, IDFile: filepath.Join(cfg.DataDir, identityFile),
			Disabled: cfg.Leases == leasesNone, Logger: deps.Logger, Registerer: deps.Registerer,
		}),
		quarantined: newQuarantine(m.quarantined),
	}
	c.survey = survey{c: c, deletions: deletion.NewPoller(deps.Bucket, deps.Logger, deps.Registerer), blocks: map[ulid.ULID]*surveyed{}}
	if err := c.loadRules(); err != nil {
		return nil, err
	}
	if deps.Registerer != nil {
		deps.Registerer.MustRegister(newBacklogCollector(c))
	}
	return c, nil
}

// FailedError reports the failed jobs of a complete pass, or, when Jobs is 0, that
// the bucket refuses writes.
type FailedError struct {
	Jobs  int
	First error
}

func (e *FailedError) Error() string {
	if e.Jobs == 0 {
		return e.First.Error()
	}
	return fmt.Sprintf("%d jobs failed, first: %v", e.Jobs, e.First)
}

// Unwrap returns the first failure.
func (e *FailedError) Unwrap() error { return e.First }

// RunOnce makes one pass: it plans and carries out jobs until the plan is empty.
// Failed jobs are logged and skipped until the next pass; RunOnce then returns a
// *FailedError at the end. It returns lease.ErrConflict when another compactor runs on a
// bucket that only one may run on. Calls must not overlap.
func (c *Compactor) RunOnce(ctx context.Context) error {
	defer c.leases.Close(ctx)
	return c.runOnce(ctx)
}

// runOnce is RunOnce; the compactor keeps its heartbeat.
func (c *Compactor) runOnce(ctx context.Context) error {
	c.metrics.passes.Inc()
	err := c.pass(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		c.metrics.failedPasses.Inc()
		return err
	}
	c.metrics.lastPass.SetToCurrentTime()
	return nil
}

// pass plans and carries out jobs until a plan has none that can be done. Then it
// writes the block index and the bundles of index headers.
func (c *Compactor) pass(ctx context.Context) error {
	r := newRound(c)
	for _, id := range c.quarantined.try(time.Now()) {
		c.log.Info("trying a quarantined block again", "block", id)
	}
	defer c.quarantined.passed()
	c.readIndex.Do(func() { c.startWithIndex(ctx) })
	foreseen := false
	for {
		p, err := r.begin(ctx)
		if err != nil {
			return errors.Join(append(r.failed, err)...)
		}
		if !foreseen {
			foreseen = true
			c.foresee(r.began)
		}
		r.carryOut(ctx, &p, r.readOnly == nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.done > 0 || r.again {
			continue
		}
		if r.readOnly != nil {
			return r.err()
		}
		if taken, err := r.awaitOthers(ctx); err != nil || taken {
			if err != nil {
				return errors.Join(append(r.failed, err)...)
			}
			continue
		}
		r.asOwner(ctx, func(ctx context.Context) {
			c.survey.finish(ctx, r.now())
			c.writeViews(ctx)
		})
		return r.err()
	}
}

// carryOut carries out the jobs of a plan, and without heavy only those that delete and
// mark.
func (r *round) carryOut(ctx context.Context, p *plan.Plan, heavy bool) {
	r.leases = r.newLeases(p)
	defer r.leases.close(ctx)
	r.lightJobs(ctx, p.Jobs)
	if heavy {
		r.heavyJobs(ctx, p.Jobs)
	}
}

// writeViews writes the objects that describe the whole bucket: the block index, and the
// bundles of index headers.
func (c *Compactor) writeViews(ctx context.Context) {
	if err := c.poller.WriteIndex(ctx, c.bkt); err != nil {
		c.log.Warn("cannot write block index", "err", err)
	}
	if c.cfg.IndexHeaders {
		if err := c.headers.Update(ctx, indexed(c.seen.Load())); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot update bundles of index headers", "err", err)
		}
	}
	if err := c.leases.Sweep(ctx); err != nil && ctx.Err() == nil {
		c.log.Warn("cannot delete old heartbeats", "err", err)
	}
}

// indexed are the blocks of a view whose index has a known size.
func indexed(v *blocklist.View) map[ulid.ULID]headerbundle.Block {
	out := make(map[ulid.ULID]headerbundle.Block, len(v.Metas))
	for id, m := range v.Metas {
		if size := v.Sizes[id][block.IndexFile]; size > 0 {
			out[id] = headerbundle.Block{Meta: m, IndexSize: size}
		}
	}
	return out
}

// startWithIndex reads the block index, so that the first listing need not read each
// meta.json. That listing finds all later changes.
func (c *Compactor) startWithIndex(ctx context.Context) {
	if _, err := c.poller.ReadIndex(ctx, maxIndexAge); err != nil && !errors.Is(err, blocklist.ErrNoIndex) {
		c.log.Warn("cannot read block index", "err", err)
	}
}

// begin lists the bucket and plans. When the bucket refuses writes it plans by the
// local clock, because deletions need no writes and free space.
func (r *round) begin(ctx context.Context) (plan.Plan, error) {
	r.done, r.readOnly, r.again = 0, nil, false
	clear(r.elsewhere)
	r.local = time.Now()
	var err error
	r.began, err = r.c.bucketTime(ctx)
	if w := (*writeError)(nil); errors.As(err, &w) && ctx.Err() == nil {
		r.readOnly = err
		r.c.log.Warn("bucket refuses writes", "err", err)
	} else if err != nil {
		return plan.Plan{}, err
	} else if err := r.c.leases.Join(ctx); err != nil {
		return plan.Plan{}, err
	}
	return r.c.look(ctx, r.began, r.readOnly == nil, r.skipped)
}

// err is the error of the pass. A bucket that refuses writes fails it.
func (r *round) err() error {
	failed := r.failed
	if r.readOnly != nil {
		failed = append([]error{r.readOnly}, failed...)
	}
	if len(failed) == 0 {
		return nil
	}
	return &FailedError{Jobs: len(r.failed), First: failed[0]}
}

// clean carries out the jobs that delete and mark.
func (c *Compactor) clean(ctx context.Context) error {
	r := newRound(c)
	p, err := r.begin(ctx)
	if err != nil {
		return err
	}
	r.carryOut(ctx, &p, false)
	return r.err()
}

// Run makes one pass, or with Config.Wait passes until ctx is cancelled.
func (c *Compactor) Run(ctx context.Context) error {
	if c.cfg.DryRun {
		return c.dryRun(ctx)
	}
	if !c.cfg.Wait {
		stop := c.showProgress()
		err := c.RunOnce(ctx)
		stop()
		if err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	}
	defer c.leases.Close(ctx)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.every(gctx, c.cfg.WaitInterval, "pass failed", c.runOnce) })
	if c.cfg.CleanupInterval > 0 {
		g.Go(func() error { return c.every(gctx, c.cfg.CleanupInterval, "cleanup failed", c.clean) })
	}
	return g.Wait()
}

// every calls f, then waits, until ctx is cancelled. It returns an error if this compactor
// must not run beside another one.
func (c *Compactor) every(ctx context.Context, interval time.Duration, failed string, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if errors.Is(err, lease.ErrConflict) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			c.log.Error(failed, "err", err)
		}
		t := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// Ready is always nil: the compactor serves no requests of users.
func (c *Compactor) Ready() error { return nil }

// RegisterGRPC adds nothing.
func (c *Compactor) RegisterGRPC(grpc.ServiceRegistrar) {}
