package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run ships and maintains all tenants until ctx is cancelled.
func (d *DB) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return every(ctx, d.cfg.SyncInterval, func() { d.logged("upload blocks", d.Sync(ctx)) }) })
	g.Go(func() error {
		return every(ctx, d.cfg.MaintainInterval, func() { d.logged("maintain tenants", d.maintain(ctx)) })
	})
	return g.Wait()
}

func every(ctx context.Context, interval time.Duration, f func()) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			f()
		}
	}
}

func (d *DB) logged(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		d.logger.Warn("could not "+what+", trying again", "err", err)
	}
}

// Sync uploads the new blocks of all tenants. One tenant's failure does not
// keep the others from it.
func (d *DB) Sync(ctx context.Context) error {
	var errs []error
	for _, t := range d.all() {
		if t.shipper == nil || t.closed.Load() {
			continue
		}
		if _, err := t.shipper.Sync(ctx); err != nil {
			d.metrics.uploadFailures.Inc()
			errs = append(errs, fmt.Errorf("upload blocks of tenant %s: %w", t.id, err))
		}
	}
	return errors.Join(errs...)
}

// Flush writes the heads of all tenants, or of the named one, to blocks and
// uploads them.
func (d *DB) Flush(ctx context.Context, only string) error {
	var errs []error
	for _, t := range d.all() {
		if only != "" && t.id != only {
			continue
		}
		errs = append(errs, t.flush(ctx))
	}
	return errors.Join(append(errs, d.Sync(ctx))...)
}

// SetLeaving says whether the node is being taken away: then writes are refused as
// not ready, while reads go on, so that a flush leaves nothing behind it.
func (d *DB) SetLeaving(leaving bool) { d.leaving.Store(leaving) }

// Close ends all writes and reads and closes every tenant. With FlushOnClose it
// writes the heads to blocks and uploads them first, as long as ctx lasts; what
// it does not manage is in the write-ahead log.
func (d *DB) Close(ctx context.Context) error {
	d.mu.Lock()
	d.open = false
	d.mu.Unlock()
	var flushErr error
	if d.cfg.FlushOnClose {
		flushErr = d.Flush(ctx, "")
	}
	return errors.Join(flushErr, d.closeAll())
}

func (d *DB) maintain(ctx context.Context) error {
	now := time.Now()
	tenants := d.all()
	errs := make([]error, len(tenants))
	var g errgroup.Group
	g.SetLimit(max(1, runtime.GOMAXPROCS(0)/2))
	for i, t := range tenants {
		g.Go(func() error {
			errs[i] = d.maintainTenant(ctx, t, now)
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	d.forgetFailures(now)
	for _, s := range d.sleepers() {
		errs = append(errs, d.maintainSleeper(s, now))
	}
	return errors.Join(errs...)
}

// maintainTenant does what a tenant needs. Its failure is nobody else's.
func (d *DB) maintainTenant(ctx context.Context, t *tenantDB, now time.Time) error {
	err := errors.Join(t.compact(ctx), t.maintain(ctx, now))
	switch {
	case t.prunable(now):
		err = errors.Join(err, d.prune(t, now))
	case t.idle(now):
		err = errors.Join(err, d.sleep(t, now))
	}
	return err
}

// prune closes a tenant and deletes its directory, unless a write has come since
// it was found idle.
func (d *DB) prune(t *tenantDB, now time.Time) error {
	c, ok := d.take(t.id)
	if !ok {
		return nil
	}
	closed, err := t.closeIf(func() bool { return t.prunable(now) })
	if closed && err == nil {
		err = d.removeTenant(t.id)
	}
	d.end(t.id, c, func() {
		if closed {
			delete(d.tenants, t.id)
		}
	})
	return err
}

// removeTenant deletes what there is of a closed tenant that the caller claims.
func (d *DB) removeTenant(id string) error {
	if err := os.RemoveAll(filepath.Join(d.cfg.Dir, id)); err != nil {
		return fmt.Errorf("delete the directory of the idle tenant %s: %w", id, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.metadata, id)
	d.logger.Info("idle tenant removed, its blocks are past the retention", "tenant", id)
	return nil
}
