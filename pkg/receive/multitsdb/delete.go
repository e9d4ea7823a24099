package multitsdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Deletion are the samples to delete from the TSDBs.
type Deletion struct {
	// Matchers of each selector, which see the external labels, too.
	Matchers [][]*labels.Matcher
	// MinTime and MaxTime are inclusive, in milliseconds.
	MinTime, MaxTime int64
}

// Delete deletes samples from the open TSDBs, except for the tenants in done, to which
// it adds those of which it has deleted. Queries do not see the samples afterwards, and
// blocks that are written from the head do not have them. A tenant that fails does not
// prevent the others.
func (d *DB) Delete(ctx context.Context, del Deletion, done map[string]bool) error {
	var errs []error
	for _, t := range d.all() {
		if done[t.id] || !t.acquire() {
			continue
		}
		err := t.delete(ctx, del, d.cfg.External(t.id))
		t.release()
		if err != nil {
			errs = append(errs, fmt.Errorf("delete series of tenant %s: %w", t.id, err))
			continue
		}
		done[t.id] = true
	}
	return errors.Join(errs...)
}

func (t *tenantDB) delete(ctx context.Context, del Deletion, ext labels.Labels) error {
	for _, all := range del.Matchers {
		ms, ok := storeapi.MatchExternal(ext, all)
		if !ok {
			continue
		}
		if len(ms) == 0 {
			// The external labels are all that it asks for.
			m, err := labels.NewMatcher(labels.MatchNotEqual, "__name__", "")
			if err != nil {
				return err
			}
			ms = append(ms, m)
		}
		if err := t.db.Delete(ctx, del.MinTime, del.MaxTime, ms...); err != nil {
			return err
		}
	}
	return nil
}

// HiddenBlocks returns the blocks of the time range, of open TSDBs, that have deleted
// samples in their files. They are removed when they are out of retention.
func (d *DB) HiddenBlocks(mint, maxt int64) (out []ulid.ULID) {
	for _, t := range d.all() {
		if !t.acquire() {
			continue
		}
		for _, b := range t.db.Blocks() {
			if m := b.Meta(); m.Stats.NumTombstones > 0 && b.OverlapsClosedInterval(mint, maxt) {
				out = append(out, m.ULID)
			}
		}
		t.release()
	}
	return out
}
