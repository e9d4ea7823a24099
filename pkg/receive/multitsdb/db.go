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
	opening map[string]*openCall
}

// openCall is the opening of a tenant that several writes wait for.
type openCall struct {
	done chan struct{}
	t    *tenantDB
	err  error
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
}

// New returns a DB that is not open yet: writes are refused as not ready.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *DB {
	cfg.setDefaults()
	d := &DB{
		cfg: cfg, logger: logger, reg: reg, metrics: newMetrics(reg),
		tenants: map[string]*tenantDB{}, opening: map[string]*openCall{},
	}
	if reg != nil {
		reg.MustRegister(newLimitCollector(d), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hindsight_receive_replay_progress_ratio",
			Help: "How much of the write-ahead logs has been read since the start, from 0 to 1; 1 when the storage is open.",
		}, d.Replayed))
	}
	return d
}

// Open opens every tenant that has a directory, replaying the write-ahead
// logs, and then begins to take writes.
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
	d.logger.Info("storage is open", "tenants", len(d.tenants), "took", time.Since(began))
	return nil
}

// openAll opens tenants, several at a time.
func (d *DB) openAll(ctx context.Context, ids []string) error {
	telling, stop := context.WithCancel(ctx)
	var teller sync.WaitGroup
	teller.Go(func() { d.replay.tell(telling, d.logger) })
	defer teller.Wait()
	defer stop()
	var g errgroup.Group
	g.SetLimit(d.cfg.OpenConcurrency)
	for _, id := range ids {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t, err := d.openTenant(id)
			if err != nil {
				return err
			}
			d.replay.end(id)
			d.mu.Lock()
			defer d.mu.Unlock()
			d.tenants[t.id] = t
			d.logger.Info("tenant opened", "tenant", t.id, "series", t.db.Head().NumSeries(), "opened", len(d.tenants))
			return nil
		})
	}
	return g.Wait()
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

// Write stores series for the tenant, opening its TSDB on the first write.
func (d *DB) Write(ctx context.Context, id string, b *remotewrite.Batch, series []uint32) error {
	for range 2 {
		t, err := d.tenant(id)
		if err != nil {
			return err
		}
		// A tenant that was pruned in this very moment is opened again.
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
	case t != nil:
		return t, nil
	}
	if err := tenant.Validate(id); err != nil {
		return nil, remotewrite.Errorf(remotewrite.Invalid, "%w", err)
	}
	return d.openOnce(id)
}

// openOnce opens a tenant; others who want it meanwhile wait.
func (d *DB) openOnce(id string) (*tenantDB, error) {
	d.mu.Lock()
	if t := d.tenants[id]; t != nil || !d.open {
		d.mu.Unlock()
		if t == nil {
			return nil, errClosed
		}
		return t, nil
	}
	call := d.opening[id]
	if call != nil {
		d.mu.Unlock()
		<-call.done
		return call.t, call.err
	}
	call = &openCall{done: make(chan struct{})}
	d.opening[id] = call
	d.mu.Unlock()

	call.t, call.err = d.openTenant(id)
	if call.err != nil {
		d.logger.Error("tenant cannot be opened", "tenant", id, "err", call.err)
		call.err = remotewrite.Errorf(remotewrite.Unavailable, "%w", call.err)
	} else {
		d.logger.Info("tenant opened on its first write", "tenant", id)
	}
	d.mu.Lock()
	delete(d.opening, id)
	if call.err == nil {
		d.tenants[id] = call.t
	}
	d.mu.Unlock()
	close(call.done)
	return call.t, call.err
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
	tenants := d.all()
	out := make([]storeapi.Store, len(tenants))
	for i, t := range tenants {
		out[i] = tenantStore{t.store, t}
	}
	return out
}

// Metadata returns what senders said about their metrics, of all tenants.
func (d *DB) Metadata(_ context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	out := map[string][]storeapi.Metadata{}
	for _, t := range d.all() {
		t.metadata.add(out, metric, limit)
	}
	return out, nil, nil
}

// SetMetadata notes metric metadata of remote write 1.0 for a tenant, one
// message each.
func (d *DB) SetMetadata(id string, msgs [][]byte) error {
	if len(msgs) == 0 {
		return nil
	}
	t, err := d.tenant(id)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if err := t.metadata.family(m); err != nil {
			return err
		}
	}
	return nil
}

// Stats describes all tenants in the order of their names.
func (d *DB) Stats() []TenantStats {
	tenants := d.all()
	out := make([]TenantStats, len(tenants))
	for i, t := range tenants {
		out[i] = t.stats()
	}
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
	t, err := a.d.tenant(a.id)
	if err != nil {
		return failingAppender{err: err}
	}
	return gatedAppender(ctx, t)
}

func (d *DB) closeAll() error {
	d.mu.Lock()
	d.open = false
	opening := slices.Collect(maps.Values(d.opening))
	d.mu.Unlock()
	// A first write may be opening its tenant; that is closed here as well.
	for _, call := range opening {
		<-call.done
	}
	var errs []error
	for _, t := range d.all() {
		errs = append(errs, t.close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.tenants)
	return errors.Join(errs...)
}
