package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// replayGCPercent is the GC percentage while logs are replayed.
const replayGCPercent = 25

// DB holds the TSDBs of all tenants. Its methods may be called concurrently.
type DB struct {
	cfg     Config
	logger  *slog.Logger
	reg     prometheus.Registerer
	metrics *metrics
	replay  replay

	ready   atomic.Bool  // writes are taken
	leaving atomic.Bool  // no writes, see SetLeaving
	unnamed atomic.Int64 // directories of TSDBs whose name cannot be a tenant

	// mu is held by apply, look and views only.
	mu      sync.RWMutex
	slots   map[string]*slot
	present int // slots that are not absent
	epoch   int // the largest of any tenant so far
	space   space
}

// TenantStats describes one tenant. Times are Unix milliseconds, 0 without
// samples.
type TenantStats struct {
	Tenant string `json:"tenant"`
	Series uint64 `json:"series"`
	// SeriesLimit is the current limit of Series; 0 is none.
	SeriesLimit      uint64  `json:"series_limit"`
	SamplesPerSecond float64 `json:"samples_per_second"`
	MinTime          int64   `json:"oldest_sample_ms"`
	MaxTime          int64   `json:"newest_sample_ms"`
	Blocks           int     `json:"blocks"`
	// Idle is a tenant that has blocks only and no TSDB in memory.
	Idle bool `json:"idle,omitempty"`
	// Error is why the tenant cannot be opened; empty if it can.
	Error string `json:"error,omitempty"`
}

// New returns a DB that is not open yet: writes are refused as not ready.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *DB {
	cfg.setDefaults()
	d := &DB{
		cfg: cfg, logger: logger, reg: reg, metrics: newMetrics(reg), slots: map[string]*slot{},
		space: space{dir: cfg.Dir, min: cfg.MinFreeDisk},
	}
	if reg != nil {
		reg.MustRegister(newLimitCollector(d), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hindsight_receive_disk_free_bytes",
			Help: "Free bytes of the disk with the TSDBs; writes are refused below --tsdb.min-free-disk.",
		}, d.space.freeBytes), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hindsight_receive_replay_progress_ratio",
			Help: "Share of the write-ahead logs that has been read since the start, from 0 to 1; 1 when the storage is open.",
		}, d.Replayed), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hindsight_receive_tenants_failed",
			Help: "Tenants whose storage cannot be opened; all others are served.",
		}, d.failed))
	}
	return d
}

// Open opens every tenant that has a directory, replaying the write-ahead
// logs, and then begins to take writes. A tenant that cannot be opened is tried
// again later; Open fails when no tenant can be opened.
func (d *DB) Open(ctx context.Context) error {
	if err := d.cfg.FS.MkdirAll(d.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("make the storage directory: %w", err)
	}
	entries, err := d.cfg.FS.ReadDir(d.cfg.Dir)
	if err != nil {
		return fmt.Errorf("list the storage directory: %w", err)
	}
	d.finishRemovals(entries)
	// Replaying produces garbage much faster than taking writes does. Collecting
	// it sooner keeps a node that restarts after a crash within the memory that it
	// ran with, so that it is not killed again.
	before := debug.SetGCPercent(replayGCPercent)
	defer debug.SetGCPercent(before)
	began := time.Now()
	var ids []string
	for _, e := range entries {
		dir := filepath.Join(d.cfg.Dir, e.Name())
		switch err := tenant.Validate(e.Name()); {
		case !e.IsDir():
		case err == nil:
			ids = append(ids, e.Name())
			d.replay.expect(e.Name(), dir)
		case d.hasLog(dir) && !strings.HasPrefix(e.Name(), removedPrefix):
			d.unnamed.Add(1)
			d.logger.Error("tenant directory left out", "dir", dir, "err", err)
		}
	}
	if err := d.openAll(ctx, ids); err != nil {
		return errors.Join(err, d.closeAll())
	}
	d.ready.Store(true)
	d.logger.Info("storage opened", "tenants", len(ids), "failed", int(d.failed()), "duration", time.Since(began))
	return nil
}

// hasLog reports whether a directory is one of a TSDB.
func (d *DB) hasLog(dir string) bool {
	info, err := d.cfg.FS.Stat(filepath.Join(dir, "wal"))
	return err == nil && info.IsDir()
}

// openAll opens tenants, several at a time.
func (d *DB) openAll(ctx context.Context, ids []string) error {
	logging, stop := context.WithCancel(ctx)
	var progress sync.WaitGroup
	progress.Go(func() { d.replay.logProgress(logging, d.logger) })
	defer progress.Wait()
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
			_, err := d.handle(id, lifecycle.Event{Kind: lifecycle.Found})
			d.replay.end(id)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
				return nil
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return allFailed(failed, len(ids))
}

// allFailed returns the error of a start at which no tenant could be opened: the
// fault is not in the tenants then.
func allFailed(errs []error, tenants int) error {
	if len(errs) == 0 || len(errs) < tenants {
		return nil
	}
	return fmt.Errorf("none of %d tenants can be opened: %w", tenants, errs[0])
}

// Replayed returns the share of the write-ahead logs that has been read since
// Open, from 0 to 1.
func (d *DB) Replayed() float64 {
	if d.ready.Load() {
		return 1
	}
	return d.replay.progress()
}

// Opened returns nil once the tenants of the directory are open, or known not to open.
// Before that, an answer without those that are still to come would look complete.
func (d *DB) Opened() error {
	if d.ready.Load() {
		return nil
	}
	return errNotOpened
}

// Stores returns one store for each tenant that has samples.
func (d *DB) Stores() []storeapi.Store {
	var out []storeapi.Store
	for _, v := range d.views() {
		switch {
		case v.tenant != nil:
			out = append(out, tenantStore{v.tenant.store, v.id, d})
		case v.idle != nil:
			out = append(out, idleStore{v.idle.store, v.idle.maxt})
		}
	}
	return out
}

// Metadata returns the metadata that senders sent with their metrics: that of the
// tenants of ctx where they may not see others, and else that of all tenants.
func (d *DB) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if err := d.Opened(); err != nil {
		return nil, nil, err
	}
	out := map[string][]storeapi.Metadata{}
	for _, v := range d.views() {
		if tenant.Includes(ctx, v.id) {
			v.metadata.add(out, metric, limit)
		}
	}
	return out, nil, nil
}

// SetMetadata keeps metric metadata of remote write 1.0 for a tenant, one
// message each. The error is that of the first message that is malformed; the
// others are kept.
func (d *DB) SetMetadata(id string, msgs [][]byte) error {
	if len(msgs) == 0 {
		return nil
	}
	if err := tenant.Validate(id); err != nil {
		return remotewrite.Errorf(remotewrite.Invalid, "%w", err)
	}
	s, err := d.handle(id, lifecycle.Event{Kind: lifecycle.Metadata})
	if err != nil {
		return err
	}
	var first error
	for _, m := range msgs {
		if err := s.metadata.family(m); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Stats describes all tenants that have samples, in the order of their names.
func (d *DB) Stats() []TenantStats {
	out := []TenantStats{}
	for _, v := range d.views() {
		switch {
		case v.tenant != nil:
			out = append(out, v.tenant.stats())
		case v.idle != nil:
			out = append(out, d.idleStats(v))
		}
	}
	return out
}

// idleStats describes a tenant that is not open.
func (d *DB) idleStats(v view) TenantStats {
	x := TenantStats{
		Tenant: v.id, Idle: true, Blocks: len(v.idle.blocks),
		SeriesLimit: uint64(max(d.cfg.Limits(v.id).ActiveSeries, 0)),
	}
	if v.life.Failures > 0 {
		x.Error = v.life.Err.Error()
	}
	if v.idle.mint <= v.idle.maxt && v.life.Extent == lifecycle.Within {
		x.MinTime, x.MaxTime = v.idle.mint, v.idle.maxt
	}
	return x
}

// failed counts the tenants that cannot be opened, those too whose directory has a name that
// cannot be a tenant.
func (d *DB) failed() (n float64) {
	n = float64(d.unnamed.Load())
	for _, v := range d.views() {
		if v.life.Failures > 0 {
			n++
		}
	}
	return n
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
	t, err := a.d.enter(a.id)
	if err != nil {
		return failingAppender{err: err}
	}
	return &gatedAppender{Appender: t.db.Appender(ctx), t: t}
}

// closeAll closes all tenants, those too whose first write is opening them.
func (d *DB) closeAll() error {
	d.ready.Store(false)
	var errs []error
	for _, v := range d.views() {
		_, err := d.handle(v.id, lifecycle.Event{Kind: lifecycle.Shutdown})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
