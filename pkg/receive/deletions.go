package receive

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb"
)

// deletions is the part of a receiver that applies the deletion requests of the bucket.
// It belongs to one goroutine.
type deletions struct {
	r   *Receive
	bkt bucket.Bucket
	// applied are the tenants from whose TSDB the samples of a request were deleted in
	// this process. Deleting them once more after a restart changes nothing.
	applied map[ulid.ULID]map[string]bool
	// reported is the last report of this node.
	reported map[ulid.ULID]deletion.NodeReport
}

// followDeletions polls the requests, hides their samples, and deletes them from the
// TSDBs once a request can no longer be cancelled.
func (r *Receive) followDeletions(ctx context.Context) error {
	if r.deletions == nil {
		return nil
	}
	d := &deletions{r: r, bkt: r.bucket, applied: map[ulid.ULID]map[string]bool{}, reported: map[ulid.ULID]deletion.NodeReport{}}
	t := time.NewTicker(r.cfg.DeletionsInterval.Duration())
	defer t.Stop()
	for {
		entries, err := r.deletions.Poll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.logger.Error("deletion requests cannot be read; those that are known stay in use", "err", err)
		default:
			d.apply(ctx, entries)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// apply deletes what the requests ask for, and reports it in the bucket.
func (d *deletions) apply(ctx context.Context, entries []*deletion.Entry) {
	now := time.Now()
	for _, e := range entries {
		if !e.Physical(now) {
			continue
		}
		done := d.applied[e.ID]
		if done == nil {
			done = map[string]bool{}
			d.applied[e.ID] = done
		}
		before := len(done)
		err := d.r.db.Delete(ctx, multitsdb.Deletion{Matchers: e.Matchers(), MinTime: e.MinTime, MaxTime: e.MaxTime}, done)
		if err != nil && ctx.Err() == nil {
			d.r.logger.Error("deletion failed", "request", e.ID, "err", err)
			continue
		}
		if len(done) > before {
			d.r.logger.Info("series deleted", "request", e.ID, "tenants", len(done)-before)
		}
		d.report(ctx, e, done, now)
	}
}

// report writes which tenants are done and which local blocks still have the bytes, if
// that has changed.
func (d *deletions) report(ctx context.Context, e *deletion.Entry, done map[string]bool, now time.Time) {
	n := deletion.NodeReport{
		ID: e.ID, Node: d.r.host.Name + d.r.own.String(), Time: now.UTC(),
		Tenants: slices.Sorted(maps.Keys(done)), Blocks: d.r.db.HiddenBlocks(e.MinTime, e.MaxTime),
	}
	n.Tenants, n.Blocks = n.Tenants[:min(len(n.Tenants), maxReported)], n.Blocks[:min(len(n.Blocks), maxReported)]
	if last, ok := d.reported[e.ID]; ok && slices.Equal(last.Tenants, n.Tenants) && slices.Equal(last.Blocks, n.Blocks) {
		return
	}
	if err := deletion.PutNode(ctx, d.bkt, n); err != nil {
		if ctx.Err() == nil {
			d.r.logger.Warn("report on deletion not written", "request", e.ID, "err", err)
		}
		return
	}
	d.reported[e.ID] = n
}

// maxReported bounds the tenants and the blocks in a report.
const maxReported = 200
