package compact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// wholeBucket is the name of the lease for work on the bucket as a whole: partial uploads,
// the block index and the bundles of index headers.
const wholeBucket = "bucket"

// maxStale is how often a pass lists again because another compactor has worked on a
// group. The listings only avoid work that is done already.
const maxStale = 3

// identityFile, in the data directory, has the identity of the compactor.
const identityFile = "compactor-id"

// leaseName is the name of the lease that a job needs. The resolutions of a group share
// one, because blocks of one are made of those of another.
func leaseName(j plan.Job) string {
	if j.Kind == plan.CleanPartial {
		return wholeBucket
	}
	return j.Group.Labels.String()
}

type leaseKey struct{}

// withLease returns a context of a job that has a lease, or of a tool that has some.
func withLease(ctx context.Context, ls ...*lease.Lease) context.Context {
	return context.WithValue(ctx, leaseKey{}, ls)
}

// leasesOf returns the leases of a job, none without one: when the bucket refuses writes, a
// round only deletes, which needs none.
func leasesOf(ctx context.Context) []*lease.Lease {
	ls, _ := ctx.Value(leaseKey{}).([]*lease.Lease)
	return ls
}

// checkLease returns lease.ErrLost if another compactor has taken over the group of the
// job. See fenced.
func checkLease(ctx context.Context) error {
	_, err := checkLeases(ctx)
	return err
}

// checkLeases is checkLease. It returns the time until which all leases are certain, zero
// for no bound.
func checkLeases(ctx context.Context) (until time.Time, err error) {
	for _, l := range leasesOf(ctx) {
		t, err := l.Check(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if until.IsZero() || !t.IsZero() && t.Before(until) {
			until = t
		}
	}
	return until, nil
}

// extensionKey is the key of the lease in the extensions of meta.json.
const extensionKey = "hindsight_lease"

// stampLease writes the epoch of the lease into the meta.json of a result, in place of
// that of an input. Extensions that are not an object stay as they are.
func stampLease(ctx context.Context, m *block.Meta) error {
	ext := map[string]json.RawMessage{}
	if raw := m.Thanos.Extensions; len(raw) > 0 && json.Unmarshal(raw, &ext) != nil {
		return nil //nolint:nilerr // the error is logged, or not of this call
	}
	_, had := ext[extensionKey]
	delete(ext, extensionKey)
	var l *lease.Lease
	if ls := leasesOf(ctx); len(ls) > 0 {
		l = ls[0]
	}
	stamp := l != nil && l.Epoch() > 0
	if !stamp && !had {
		return nil
	}
	if ext == nil { // decoded from null
		ext = map[string]json.RawMessage{}
	}
	var err error
	if stamp {
		if ext[extensionKey], err = json.Marshal(map[string]any{"epoch": l.Epoch(), "owner": l.Owner()}); err != nil {
			return err
		}
	}
	m.Thanos.Extensions = nil
	if len(ext) > 0 {
		m.Thanos.Extensions, err = json.Marshal(ext)
	}
	return err
}

// stampDir is stampLease for the meta.json in a directory.
func stampDir(ctx context.Context, dir string) error {
	m, err := block.ReadMetaDir(dir)
	if err != nil {
		return err
	}
	if err := stampLease(ctx, m); err != nil {
		return err
	}
	return block.WriteMetaDir(dir, m)
}

// leaseSet has the leases of one plan. A lease is taken when its first job starts and
// released when its last one has ended, so that other compactors find the groups that this
// one has not come to.
type leaseSet struct {
	r *round
	// free says that jobs need no leases.
	free bool

	by map[string]*groupLease
}

// groupLease is the lease of one group. No lock is held while the bucket is asked for it, so
// that jobs which wait for the answer see that the pass ends.
type groupLease struct {
	mu    sync.Mutex
	tried bool
	jobs  int // that have not ended

	// members are the external labels of the blocks, as names of leases, if the group is
	// without some of their labels. Their leases are taken too: a tool, or a compactor with
	// other replica labels, knows no other name of the group.
	members map[string]bool

	got   chan struct{}           // closed when the leases were asked for
	lease *lease.Lease            // nil if another compactor has it or that of a member
	of    map[string]*lease.Lease // of the members
}

func (r *round) newLeases(p *plan.Plan) *leaseSet {
	s := &leaseSet{r: r, free: r.readOnly != nil, by: map[string]*groupLease{}}
	for _, j := range p.Jobs {
		name := leaseName(j)
		if s.by[name] == nil {
			s.by[name] = &groupLease{got: make(chan struct{}), members: map[string]bool{}, of: map[string]*lease.Lease{}}
		}
		s.by[name].jobs++
		for _, member := range s.members(j) {
			s.by[name].members[member] = true
		}
	}
	return s
}

// members are the names of the leases of the external labels of a job's blocks, without that
// of its group.
func (s *leaseSet) members(j plan.Job) (out []string) {
	if j.Kind == plan.CleanPartial {
		return nil
	}
	v := s.r.c.seen.Load()
	for _, id := range j.Blocks {
		m := v.Metas[id]
		if m == nil {
			continue
		}
		if name := m.ExternalLabels().String(); name != leaseName(j) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// get returns a context with the lease of the job, or false if this compactor has not got
// it. The first job of a group tries.
func (s *leaseSet) get(ctx context.Context, j plan.Job) (context.Context, bool) {
	if s.free {
		return ctx, true
	}
	name := leaseName(j)
	g := s.by[name]
	g.mu.Lock()
	first := !g.tried
	g.tried = true
	g.mu.Unlock()
	if first {
		s.acquire(ctx, g, name, j.Blocks)
		close(g.got)
	}
	select {
	case <-g.got:
		if g.lease == nil {
			return ctx, false
		}
		ls := []*lease.Lease{g.lease}
		for _, member := range s.members(j) {
			if l := g.of[member]; l != nil {
				ls = append(ls, l)
			}
		}
		return withLease(ctx, ls...), true
	case <-ctx.Done():
		return ctx, false
	}
}

// acquire takes the lease of a group and those of its members: all or none.
func (s *leaseSet) acquire(ctx context.Context, g *groupLease, name string, blocks []ulid.ULID) {
	if g.lease = s.r.acquire(ctx, name, blocks); g.lease == nil {
		return
	}
	for _, member := range slices.Sorted(maps.Keys(g.members)) {
		l := s.r.acquire(ctx, member, blocks)
		if l == nil {
			g.release(ctx, s.r.now())
			return
		}
		g.of[member] = l
	}
}

// ended counts a job that was carried out or left out. The last one releases the lease.
func (s *leaseSet) ended(ctx context.Context, j plan.Job) {
	g := s.by[leaseName(j)]
	g.mu.Lock()
	g.jobs--
	last := g.jobs == 0
	g.mu.Unlock()
	if last {
		g.release(ctx, s.r.now())
	}
}

// release releases the leases, once. No job waits for them any more.
func (g *groupLease) release(ctx context.Context, now time.Time) {
	for _, l := range g.of {
		l.Release(ctx, now)
	}
	clear(g.of)
	if g.lease != nil {
		g.lease.Release(ctx, now)
		g.lease = nil
	}
}

// close releases the leases of jobs that were not reached. All others have ended.
func (s *leaseSet) close(ctx context.Context) {
	for _, g := range s.by {
		g.release(ctx, s.r.now())
	}
}

// acquire takes a lease for jobs on the blocks, or returns nil.
func (r *round) acquire(ctx context.Context, name string, blocks []ulid.ULID) *lease.Lease {
	r.mu.Lock()
	listed := r.began
	if r.stale[name] >= maxStale {
		listed = r.now().Add(24 * time.Hour)
	}
	r.mu.Unlock()
	l, err := r.c.leases.Acquire(ctx, name, listed, r.now())
	held := (*lease.HeldError)(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.elsewhere, name)
	switch {
	case err == nil:
		return l
	case errors.As(err, &held):
		r.elsewhere[name] = held.Owner
	case errors.Is(err, lease.ErrStale):
		r.stale[name]++
		r.again = true
	case ctx.Err() == nil:
		r.c.log.Error("cannot take the lease of a group", "group", name, "err", err)
		r.failed = append(r.failed, err)
		for _, id := range blocks {
			r.skipped[id] = err.Error()
		}
	}
	return nil
}

// surrender leaves the group of a job to the compactor that has taken it over.
func (r *round) surrender(j plan.Job, err error) {
	r.c.log.Warn("job abandoned", "job", j.Kind, "group", j.Group, "err", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.elsewhere[leaseName(j)] = ""
	for _, id := range j.Blocks {
		r.skipped[id] = err.Error()
	}
}

// awaitOthers says whether a compactor that has groups of this pass has ended, so that
// they can be taken over. A compactor that runs once waits to find out; one that keeps
// running finds out in its next pass.
func (r *round) awaitOthers(ctx context.Context) (bool, error) {
	var owners []string
	seen := map[string]bool{}
	for _, owner := range r.elsewhere {
		if owner != "" && !seen[owner] {
			seen[owner] = true
			owners = append(owners, owner)
		}
	}
	if len(r.elsewhere) > 0 {
		r.c.log.Info("groups left to other compactors", "groups", len(r.elsewhere))
	}
	if len(owners) == 0 || r.c.cfg.Wait {
		return false, nil
	}
	silent, err := r.c.leases.AnySilent(ctx, owners)
	if err != nil {
		return false, fmt.Errorf("look for the compactors that have groups of the bucket: %w", err)
	}
	return silent, nil
}

// asOwner calls f with the lease of the whole bucket, unless another compactor has it or
// has had it since the listing.
func (r *round) asOwner(ctx context.Context, f func(context.Context)) {
	l := r.acquire(ctx, wholeBucket, nil)
	if l == nil {
		return
	}
	defer func() { l.Release(ctx, r.now()) }()
	f(withLease(ctx, l))
}
