package lease

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Lease is the right of this process to change a group of the bucket. Its methods may be
// called concurrently.
type Lease struct {
	m            *Manager
	name, object string

	mu   sync.Mutex
	refs int
	rec  record
	at   bucket.Version
	// unreleased says that no job uses the lease, but that the object names this process.
	unreleased  bool
	workedUntil time.Time
	lost        bool
	// others is the last record of another owner, or the end of its ownership.
	others *record
}

// objectName is the name of the object of a lease.
func objectName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return leaseDir + "/" + hex.EncodeToString(sum[:16]) + ".json"
}

func (m *Manager) lease(name string) *Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.leases[name]
	if l == nil {
		l = &Lease{m: m, name: name, object: objectName(name)}
		m.leases[name] = l
	}
	return l
}

// Acquire takes the lease of a name for a job that was planned from a listing that began at
// listed; now is the present. Both are times of the bucket. Each success needs a Release;
// several jobs of this process may have one lease. The error is a HeldError while another
// compactor has the lease, and ErrStale if another one has worked since the listing. Join
// must have succeeded.
func (m *Manager) Acquire(ctx context.Context, name string, listed, now time.Time) (*Lease, error) {
	l := m.lease(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m.cfg.Disabled || m.isSingle():
	case l.refs == 0:
		if err := l.acquire(ctx, listed, now); err != nil {
			return nil, err
		}
	case !fresh(l.others, listed):
		return nil, fmt.Errorf("lease of %s: %w", name, ErrStale)
	}
	if l.refs == 0 {
		l.lost = false
		m.held.Inc()
	}
	l.refs++
	return l, nil
}

// acquire makes this process the owner.
func (l *Lease) acquire(ctx context.Context, listed, now time.Time) error {
	m := l.m
	r, at, err := m.readSettled(ctx, l.object)
	if err != nil {
		return err
	}
	var oerr error
	d := decide(r, m.id, func(owner string) bool {
		o, err := m.observe(ctx, owner)
		oerr = err
		return o.dead
	})
	switch {
	case oerr != nil:
		return oerr
	case d == busy:
		return &HeldError{Name: l.name, Owner: r.Owner, Host: r.Host}
	case d == adopt || d == takeOver:
		return l.expropriate(ctx, r, at, d, now)
	case d == take && at != l.at:
		l.others = r
	}
	// Passes and cleanups of one process have listings of their own: the other one may have
	// had the lease since the owner that this listing lacks.
	if !fresh(l.others, listed) {
		return fmt.Errorf("lease of %s: %w", l.name, ErrStale)
	}
	n := next(r, l.name, m.id, m.host, nonce())
	return l.write(ctx, n, at)
}

// expropriate ends the ownership of a process that has ended. A listing that begins later
// has all its results but those of a job that it may still carry out after a pause, which
// finds that the epoch has changed.
func (l *Lease) expropriate(ctx context.Context, r *record, at bucket.Version, d decision, now time.Time) error {
	n := next(r, l.name, "", l.m.host, nonce())
	n.WorkedUntil = now.UnixMilli()
	if err := l.write(ctx, n, at); err != nil {
		return err
	}
	l.unreleased, l.others = false, n
	if d == takeOver {
		l.m.taken.Inc()
		l.m.cfg.Logger.Warn("lease taken over from a compactor without a heartbeat", "group", l.name, "owner", r.Owner, "host", r.Host, "epoch", n.Epoch)
	}
	return fmt.Errorf("lease of %s: %w", l.name, ErrStale)
}

// write replaces the object. Another process may be faster.
func (l *Lease) write(ctx context.Context, n *record, at bucket.Version) error {
	b, err := encode(n)
	if err != nil {
		return err
	}
	v, err := l.m.cond.PutIf(ctx, l.object, b, at)
	if errors.Is(err, bucket.ErrChanged) {
		return &HeldError{Name: l.name}
	}
	if err != nil {
		return fmt.Errorf("write lease of %s: %w", l.name, err)
	}
	l.rec, l.at = *n, v
	return nil
}

// Epoch is the number of the ownership, 0 if the bucket has no conditional writes.
func (l *Lease) Epoch() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rec.Epoch
}

// Owner is the identity of this process.
func (l *Lease) Owner() string {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.m.id
}

// Check returns ErrLost if another compactor has taken the lease over, for instance while
// this process was stopped. It reads the object. Otherwise it returns the time, of the
// monotonic clock, until which a write that follows may begin: no other compactor takes
// over before a lease time after the last heartbeat. When heartbeats fail, that is
// minCertain from now, so that the bucket has time to answer. Zero is no bound.
func (l *Lease) Check(ctx context.Context) (until time.Time, err error) {
	if l.m.cfg.Disabled {
		return time.Time{}, nil
	}
	start := time.Now()
	if l.m.isSingle() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		return l.m.certain(start), l.m.conflict
	}
	r, at, err := l.m.readRecord(ctx, l.object)
	if err != nil {
		return time.Time{}, fmt.Errorf("check lease of %s: %w", l.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r != nil && r.Nonce == l.rec.Nonce && at == l.at && !l.lost {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		return l.m.certain(start), nil
	}
	if !l.lost {
		l.lost = true
		l.m.lost.Inc()
	}
	if r == nil {
		return time.Time{}, fmt.Errorf("%w: the object of %s was deleted", ErrLost, l.name)
	}
	return time.Time{}, fmt.Errorf("%w: %s has epoch %d instead of %d, owner %s on %s", ErrLost, l.name, r.Epoch, l.rec.Epoch, r.Owner, r.Host)
}

// certain is until when a lease that was found at start cannot have been taken over, or
// minCertain. The caller holds mu.
func (m *Manager) certain(start time.Time) time.Time {
	until, least := m.beaten.Add(m.cfg.Duration), start.Add(minCertain)
	if until.Before(least) {
		return least
	}
	return until
}

// Release gives the lease back for one job; now is the time of the bucket. The last job
// writes the object. When that fails, the heartbeat tries again.
func (l *Lease) Release(ctx context.Context, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs--; l.refs > 0 {
		return
	}
	l.m.held.Dec()
	if l.m.cfg.Disabled || l.m.isSingle() || l.lost {
		return
	}
	l.unreleased, l.workedUntil = true, now
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	l.release(ctx)
}

// release writes that the lease is free. The caller holds mu.
func (l *Lease) release(ctx context.Context) {
	n := l.rec
	n.Owner, n.WorkedUntil, n.Nonce = "", l.workedUntil.UnixMilli(), nonce()
	err := l.write(ctx, &n, l.at)
	switch {
	case err == nil, errors.Is(err, errHeld):
		l.unreleased = false
	default:
		l.m.cfg.Logger.Warn("cannot release lease", "group", l.name, "err", err)
	}
}
