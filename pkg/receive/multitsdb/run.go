package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
)

// Run ships and maintains all tenants until ctx is cancelled.
func (d *DB) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error {
		return every(ctx, d.cfg.SyncInterval, func() { d.logged("upload of blocks failed", d.sync(ctx)) })
	})
	g.Go(func() error {
		return every(ctx, d.cfg.MaintainInterval, func() { d.logged("maintenance of tenants failed", d.maintain(ctx)) })
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

func (d *DB) logged(text string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		d.logger.Warn(text, "err", err)
	}
}

// sync uploads the new blocks of all open tenants. The failure of one does not
// affect the others.
func (d *DB) sync(ctx context.Context) error {
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
	return errors.Join(append(errs, d.sync(ctx))...)
}

// SetLeaving sets whether the node is leaving the ring for good: then writes are
// refused as not ready, while reads go on, so that a flush leaves nothing behind it.
func (d *DB) SetLeaving(leaving bool) { d.leaving.Store(leaving) }

// Close ends all writes and reads and closes every tenant. With FlushOnClose it
// writes the heads to blocks and uploads them first, as long as ctx lasts; the
// rest is in the write-ahead log.
func (d *DB) Close(ctx context.Context) error {
	d.ready.Store(false)
	var flushErr error
	if d.cfg.FlushOnClose {
		flushErr = d.Flush(ctx, "")
	}
	return errors.Join(flushErr, d.closeAll())
}

// maintain compacts, closes and removes tenants as they need it, several at a
// time. The failure of one does not affect the others.
func (d *DB) maintain(ctx context.Context) error {
	now := time.Now()
	views := d.views()
	errs := make([]error, len(views))
	var g errgroup.Group
	g.SetLimit(max(1, runtime.GOMAXPROCS(0)/2))
	for i, v := range views {
		g.Go(func() error {
			if v.tenant != nil {
				errs[i] = d.maintainTenant(ctx, v.tenant, now)
			} else {
				errs[i] = d.maintainIdle(v, now)
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	return errors.Join(errs...)
}

// maintainTenant compacts an open tenant, and removes or closes it if it is past
// its retention or idle.
func (d *DB) maintainTenant(ctx context.Context, t *tenantDB, now time.Time) error {
	err := t.compact(ctx, now)
	if t.prunable(now) {
		return errors.Join(err, d.prune(t, now))
	}
	return errors.Join(err, d.closeIdle(t, now))
}

// prune closes a tenant and deletes its directory, unless it has been used since
// it was found to be past its retention.
func (d *DB) prune(t *tenantDB, now time.Time) error {
	_, err := d.handle(t.id, lifecycle.Event{Kind: lifecycle.Expired, Epoch: t.epoch, Now: now})
	return err
}
