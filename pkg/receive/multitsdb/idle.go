package multitsdb

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// A tenant is open, or asleep: its TSDB, which takes more than half a MiB even
// without a series, is closed, and what is known of it is this. A write opens it,
// and so does a query for a time that it has samples of.
//
// Who opens or closes a TSDB while the DB runs holds the claim of its tenant.
// Others who want the tenant wait for the end of the claim and look again.
type sleeper struct {
	id         string
	store      *tsdbstore.Store
	blocks     []blockAge
	mint, maxt int64 // of the samples, inclusive; mint > maxt without any
	lastWrite  int64
	// unknown says that the tenant has not been opened since the start, and
	// nothing is known of what it has.
	unknown bool
}

// claim is the opening or closing of a tenant.
type claim struct {
	done chan struct{}
	err  error // of an opening
}

// admit says whether the tenant is here, or may be added.
func (d *DB) admit(id string) error {
	most := d.cfg.MaxTenants()
	d.mu.RLock()
	defer d.mu.RUnlock()
	if most <= 0 || d.tenants[id] != nil || d.asleep[id] != nil || d.failures[id] != nil ||
		len(d.tenants)+len(d.asleep)+len(d.claims)+len(d.failures) < most {
		return nil
	}
	return d.tooManyTenants(id, most)
}

func (d *DB) tooManyTenants(id string, most int) error {
	d.metrics.rejectedTenants.Inc()
	return remotewrite.Errorf(remotewrite.LimitExceeded, "tenant %s would be new, and this node is at its limit of %d tenants (max_tenants)", id, most)
}

// take makes the claim of the tenant, unless somebody has it or the DB is not
// open.
func (d *DB) take(id string) (*claim, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open || d.claims[id] != nil {
		return nil, false
	}
	c := &claim{done: make(chan struct{})}
	d.claims[id] = c
	return c, true
}

// end ends the claim; change says what is true from now on.
func (d *DB) end(id string, c *claim, change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.claims, id)
	change()
	close(c.done)
}

// openOnce opens a tenant; others who want it meanwhile wait.
func (d *DB) openOnce(id string) (*tenantDB, error) {
	for {
		d.mu.RLock()
		t, other, open, failed := d.tenants[id], d.claims[id], d.open, d.mayOpen(id, time.Now())
		d.mu.RUnlock()
		switch {
		case !open:
			return nil, errClosed
		case other != nil:
			<-other.done
			if other.err != nil {
				return nil, other.err
			}
		case t != nil:
			return t, nil
		case failed != nil:
			return nil, failed
		default:
			if err := d.admit(id); err != nil {
				return nil, err
			}
			if c, ok := d.take(id); ok {
				d.openClaimed(id, c)
				if c.err != nil {
					return nil, c.err
				}
			}
		}
	}
}

// idle says that the tenant's TSDB is of no use at the moment: nobody has written
// to it or read from it for a while, and there is nothing in it but blocks that
// are where they have to go.
func (t *tenantDB) idle(now time.Time) bool {
	if t.db.Head().NumSeries() > 0 || now.UnixMilli()-t.lastUse.Load() < t.cfg.IdleTimeout.Milliseconds() {
		return false
	}
	return !slices.ContainsFunc(t.ages(t.db.Blocks()), func(b blockAge) bool { return !b.uploaded })
}

// sleep closes the TSDB of a tenant that is idle.
func (d *DB) sleep(t *tenantDB, now time.Time) error {
	c, ok := d.take(t.id)
	if !ok {
		return nil
	}
	var s *sleeper
	closed, err := t.closeIf(func() bool {
		if t.reading > 0 || !t.idle(now) {
			return false
		}
		s = t.sleeper()
		return true
	})
	if closed && err == nil {
		err = t.removeLogs()
	}
	d.end(t.id, c, func() {
		if closed {
			delete(d.tenants, t.id)
			d.asleep[t.id] = s
		}
	})
	if closed {
		d.logger.Debug("idle tenant closed, its next write or query opens it", "tenant", t.id)
	}
	return err
}

func (t *tenantDB) sleeper() *sleeper {
	s := &sleeper{id: t.id, store: t.store, blocks: t.ages(t.db.Blocks()), mint: 0, maxt: -1, lastWrite: t.lastWrite.Load()}
	for i, b := range t.db.Blocks() {
		m := b.Meta()
		if i == 0 {
			s.mint, s.maxt = m.MinTime, m.MaxTime-1
		}
		s.mint, s.maxt = min(s.mint, m.MinTime), max(s.maxt, m.MaxTime-1)
	}
	return s
}

// removeLogs deletes what is left of the logs of a TSDB that was closed without a
// series in its head: everything in them is in blocks. Replaying them would bring
// series back that have no samples, and late samples a second time.
func (t *tenantDB) removeLogs() error {
	names := []string{"wal", "wbl", "chunks_head"}
	if snapshots, err := filepath.Glob(filepath.Join(t.dir, "chunk_snapshot.*")); err == nil {
		for _, s := range snapshots {
			names = append(names, filepath.Base(s))
		}
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(t.dir, name)); err != nil {
			return fmt.Errorf("delete the logs of the idle tenant %s: %w", t.id, err)
		}
	}
	return nil
}

// sleepers returns the tenants that are asleep, in the order of their names.
func (d *DB) sleepers() []*sleeper {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]*sleeper, 0, len(d.asleep))
	for _, s := range d.asleep {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *sleeper) int { return cmp.Compare(a.id, b.id) })
	return out
}

func (d *DB) isAsleep(id string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.asleep[id] != nil
}

// maintainSleeper removes a tenant that is past its retention, and opens one that
// has blocks to delete, or could not be opened before.
func (d *DB) maintainSleeper(s *sleeper, now time.Time) error {
	if s.unknown {
		_, err := d.tenant(s.id)
		return err
	}
	keep := d.cfg.retention(s.id)
	if !expired(s.blocks, keep, s.lastWrite, now.UnixMilli()) {
		if len(deletable(s.blocks, keep)) == 0 {
			return nil
		}
		_, err := d.tenant(s.id)
		return err
	}
	c, ok := d.take(s.id)
	if !ok {
		return nil
	}
	d.mu.RLock()
	still := d.asleep[s.id] == s
	d.mu.RUnlock()
	var err error
	if still {
		err = d.removeTenant(s.id)
	}
	d.end(s.id, c, func() {
		if still && err == nil {
			delete(d.asleep, s.id)
			delete(d.failures, s.id)
		}
	})
	return err
}

// guarded is the TSDB of a tenant, which is opened when it is asleep, with its
// readers counted.
type guarded struct {
	d  *DB
	id string
}

// StartTime implements tsdbstore.DB.
func (g guarded) StartTime() (int64, error) {
	g.d.mu.RLock()
	t, s := g.d.tenants[g.id], g.d.asleep[g.id]
	g.d.mu.RUnlock()
	switch {
	case t != nil:
		return t.startTime()
	case s != nil:
		return s.mint, nil
	}
	return 0, errClosed
}

// startTime is the time of the oldest sample, of late ones that are in the head,
// too.
func (t *tenantDB) startTime() (int64, error) {
	start, err := t.db.StartTime()
	return min(start, t.db.Head().MinOOOTime()), err
}

// ChunkQuerier implements tsdbstore.DB.
func (g guarded) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	for range closings {
		t, err := g.open(mint, maxt)
		if err != nil {
			return nil, err
		}
		if t == nil {
			return storage.NoopChunkedQuerier(), nil
		}
		if q, ok, err := t.chunkQuerier(mint, maxt); ok || err != nil {
			return q, err
		}
	}
	return nil, errClosed
}

// open returns the tenant's TSDB; nil when it has nothing from that time.
func (g guarded) open(mint, maxt int64) (*tenantDB, error) {
	g.d.mu.RLock()
	t, s, c := g.d.tenants[g.id], g.d.asleep[g.id], g.d.claims[g.id]
	g.d.mu.RUnlock()
	switch {
	case t != nil && !t.closed.Load():
		return t, nil
	case s != nil && (maxt < s.mint || mint > s.maxt):
		return nil, nil
	case t == nil && s == nil && c == nil:
		return nil, nil // it was removed
	}
	return g.d.tenant(g.id)
}

// sleepingStore is a store that says when its samples end, so that it is asked for
// nothing that is newer.
type sleepingStore struct {
	*tsdbstore.Store
	maxt int64
}

// Info implements storeapi.Store.
func (s sleepingStore) Info() storeapi.Info {
	i := s.Store.Info()
	i.MaxTime = s.maxt
	for j := range i.TSDBs {
		i.TSDBs[j].MaxTime = s.maxt
	}
	return i
}

var _ storeapi.Store = sleepingStore{}
