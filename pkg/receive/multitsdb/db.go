package multitsdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// replayGCPercent is the GC percentage while logs are replayed.
const replayGCPercent = 25

// DB is all tenants. Its methods may be called concurrently.
type DB struct {
	cfg     Config
	logger  *slog.Logger
	reg     prometheus.Registerer
	metrics *metrics
	replay  replay

	mu      sync.RWMutex
	tenants map[string]*tenantDB
	open    bool
	leaving atomic.Bool // no writes, see SetLeaving
	asleep  map[string]*sleeper
	claims  map[string]*claim
	// failures are of the tenants that could not be opened.
	failures map[string]*failure

	// metadata is here so that it outlives TSDBs, and needs none.
	metadata map[string]*familyMetadata
}

// TenantStats describes one tenant. Times are Unix milliseconds, 0 without
// samples.
type TenantStats struct {
	Tenant string `json:"tenant"`
	Series uint64 `json:"series"`
	// SeriesLimit is the limit of Series at this moment; 0 is none.
	SeriesLimit      uint64  `json:"series_limit"`
	SamplesPerSecond float64 `json:"samples_per_second"`
	MinTime          int64   `json:"oldest_sample_ms"`
	MaxTime          int64   `json:"newest_sample_ms"`
	Blocks           int     `json:"blocks"`
	// Asleep is a tenant that is idle and has nothing in memory.
	Asleep bool `json:"asleep,omitempty"`
	// Error says why the tenant cannot be opened at the moment.
	Error string `json:"error,omitempty"`
}

// New returns a DB that is not open yet: writes are refused as not ready.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *DB {
	cfg.setDefaults()
	d := &DB{
		cfg: cfg, logger: logger, reg: reg, metrics: newMetrics(reg),
		tenants: map[string]*tenantDB{}, asleep: map[string]*sleeper{}, claims: map[string]*claim{},
		metadata: map[string]*familyMetadata{}, failures: map[string]*failure{},
	}
	if reg != nil {
		reg.MustRegister(newLimitCollector(d), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hindsight_receive_replay_progress_ratio",
			Help: "How much of the write-ahead logs has been read since the start, from 0 to 1; 1 when the storage is open.",
		}, d.Replayed), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hindsight_receive_tenants_failed",
			Help: "Tenants whose storage cannot be opened; all others go on.",
		}, d.failed))
	}
	return d
}

// Open opens every tenant that has a directory, replaying the write-ahead
// logs, and then begins to take writes. A tenant that cannot be opened is tried
// again later; it is an error when none can.
func (d *DB) Open(ctx context.Context) error {
	if err := os.MkdirAll(d.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("make the storage directory: %w", err)
	}
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return fmt.Errorf("list the storage directory: %w", err)
	}
	// Replaying makes garbage much faster than taking writes does. Collecting it
	// sooner keeps a node that came back from a crash within the memory that it
	// ran with, so that it is not killed for it again.
	before := debug.SetGCPercent(replayGCPercent)
	defer debug.SetGCPercent(before)
	began := time.Now()
	var ids []string
	for _, e := range entries {
		if e.IsDir() && tenant.Validate(e.Name()) == nil {
			ids = append(ids, e.Name())
			d.replay.expect(e.Name(), filepath.Join(d.cfg.Dir, e.Name()))
		}
	}
	if err := d.openAll(ctx, ids); err != nil {
		return errors.Join(err, d.closeAll())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = true
	d.logger.Info("storage is open", "tenants", len(d.tenants), "failed", len(d.failures), "took", time.Since(began))
	return nil
}

// openAll opens tenants, several at a time.
func (d *DB) openAll(ctx context.Context, ids []string) error {
	telling, stop := context.WithCancel(ctx)
	var teller sync.WaitGroup
	teller.Go(func() { d.replay.tell(telling, d.logger) })
	defer teller.Wait()
	defer stop()
	var (
		g      errgroup.Group
		mu     sync.Mutex
		failed []error
	)
	g.SetLimit(d.cfg.OpenConcurrency)
	for _, id := range ids {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t, err := d.openTenant(id)
			d.replay.end(id)
			if err != nil {
				d.unopened(id, err)
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
				return nil
			}
			// Who has been idle for long need not be so for longer.
			t.lastUse.Store(t.lastWrite.Load())
			d.mu.Lock()
			defer d.mu.Unlock()
			d.tenants[t.id] = t
			d.logger.Info("tenant opened", "tenant", t.id, "series", t.db.Head().NumSeries(), "opened", len(d.tenants))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return allFailed(failed, len(ids))
}

// Replayed is how much of the write-ahead logs has been read since Open, from 0
// to 1.
func (d *DB) Replayed() float64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.open {
		return 1
	}
	return d.replay.progress()
}

// closings is how often one request bears that the tenant is closed before it
// gets hold of it.
const closings = 3

// Write stores series for the tenant, opening its TSDB on the first write.
func (d *DB) Write(ctx context.Context, id string, b *remotewrite.Batch, series []uint32) error {
	for range closings {
		t, err := d.tenant(id)
		if err != nil {
			return err
		}
		// A tenant that was closed in this very moment is opened again.
		if err = t.Write(ctx, b, series); !errors.Is(err, errClosed) {
			return err
		}
	}
	return errClosed
}

func (d *DB) tenant(id string) (*tenantDB, error) {
	d.mu.RLock()
	t, open := d.tenants[id], d.open
	d.mu.RUnlock()
	switch {
	case !open:
		return nil, errClosed
	case t != nil && !t.closed.Load():
		return t, nil
	}
	if err := tenant.Validate(id); err != nil {
		return nil, remotewrite.Errorf(remotewrite.Invalid, "%w", err)
	}
	return d.openOnce(id)
}

// openClaimed opens the tenant that c claims and ends the claim.
func (d *DB) openClaimed(id string, c *claim) {
	t, err := d.openTenant(id)
	if err != nil {
		d.logger.Error("tenant cannot be opened", "tenant", id, "err", err)
		c.err = remotewrite.Errorf(remotewrite.Unavailable, "%w", err)
	} else {
		d.logger.Info("tenant opened", "tenant", id)
	}
	d.end(id, c, func() {
		if err != nil {
			d.fail(id, err, time.Now())
			return
		}
		d.tenants[id] = t
		delete(d.asleep, id)
		delete(d.failures, id)
	})
}

// all returns the open tenants in the order of their names.
func (d *DB) all() []*tenantDB {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]*tenantDB, 0, len(d.tenants))
	for _, t := range d.tenants {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *tenantDB) int { return cmp.Compare(a.id, b.id) })
	return out
}

// Stores returns one store for each tenant.
func (d *DB) Stores() []storeapi.Store {
	tenants, sleepers := d.all(), d.sleepers()
	out := make([]storeapi.Store, 0, len(tenants)+len(sleepers))
	for _, t := range tenants {
		out = append(out, tenantStore{t.store, t, d})
	}
	for _, s := range sleepers {
		out = append(out, sleepingStore{s.store, s.maxt})
	}
	return out
}

// Metadata returns what senders said about their metrics: those of the tenant
// of ctx where that may not see others, and else those of all tenants.
func (d *DB) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	d.mu.RLock()
	all := make([]*familyMetadata, 0, len(d.metadata))
	for _, id := range slices.Sorted(maps.Keys(d.metadata)) {
		if !tenant.Only(ctx) || id == tenant.FromContext(ctx) {
			all = append(all, d.metadata[id])
		}
	}
	d.mu.RUnlock()
	out := map[string][]storeapi.Metadata{}
	for _, m := range all {
		m.add(out, metric, limit)
	}
	return out, nil, nil
}

// SetMetadata notes metric metadata of remote write 1.0 for a tenant, one
// message each. The error is that of the first message that is malformed; the
// others are noted.
func (d *DB) SetMetadata(id string, msgs [][]byte) error {
	if len(msgs) == 0 {
		return nil
	}
	if err := tenant.Validate(id); err != nil {
		return remotewrite.Errorf(remotewrite.Invalid, "%w", err)
	}
	if err := d.admitMetadata(id); err != nil {
		return err
	}
	of := d.metadataOf(id)
	var first error
	for _, m := range msgs {
		if err := of.family(m); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// admitMetadata keeps the tenants that metadata alone has made within the limit
// too.
func (d *DB) admitMetadata(id string) error {
	most := d.cfg.MaxTenants()
	d.mu.RLock()
	defer d.mu.RUnlock()
	if most <= 0 || d.metadata[id] != nil || len(d.metadata) < most {
		return nil
	}
	return d.tooManyTenants(id, most)
}

func (d *DB) metadataOf(id string) *familyMetadata {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.metadata[id]
	if m == nil {
		m = &familyMetadata{}
		d.metadata[id] = m
	}
	return m
}

// Stats describes all tenants in the order of their names.
func (d *DB) Stats() []TenantStats {
	out := []TenantStats{}
	for _, t := range d.all() {
		out = append(out, t.stats())
	}
	for _, s := range d.sleepers() {
		x := TenantStats{
			Tenant: s.id, Asleep: true, Blocks: len(s.blocks), Error: d.failureOf(s.id),
			SeriesLimit: uint64(max(d.cfg.Limits(s.id).ActiveSeries, 0)),
		}
		if s.mint <= s.maxt && !s.unknown {
			x.MinTime, x.MaxTime = s.mint, s.maxt
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b TenantStats) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return out
}

// Appendable is a storage for the samples of one tenant, for the program's own
// metrics. It opens the tenant when needed.
func (d *DB) Appendable(id string) storage.Appendable { return appendable{d, id} }

type appendable struct {
	d  *DB
	id string
}

// Appender returns an appender of the tenant, or one that fails.
func (a appendable) Appender(ctx context.Context) storage.Appender {
	for range closings {
		t, err := a.d.tenant(a.id)
		if err != nil {
			return failingAppender{err: err}
		}
		if app, ok := gatedAppender(ctx, t); ok {
			return app
		}
	}
	return failingAppender{err: errClosed}
}

func (d *DB) closeAll() error {
	d.mu.Lock()
	d.open = false
	claims := slices.Collect(maps.Values(d.claims))
	d.mu.Unlock()
	// A first write may be opening its tenant; that is closed here as well.
	for _, c := range claims {
		<-c.done
	}
	var errs []error
	for _, t := range d.all() {
		errs = append(errs, t.close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.tenants)
	clear(d.asleep)
	clear(d.failures)
	return errors.Join(errs...)
}
