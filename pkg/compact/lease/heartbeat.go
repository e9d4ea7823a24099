package lease

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// beat writes the next heartbeat.
func (m *Manager) beat(ctx context.Context) error {
	m.mu.Lock()
	m.count++
	b := m.own()
	m.mu.Unlock()
	start := time.Now()
	if err := m.upload(ctx, beatName(b.Owner), b); err != nil {
		m.failedHeartbeat.Inc()
		return fmt.Errorf("write heartbeat: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beaten = start
	return nil
}

// own is the heartbeat of this process. The caller holds mu.
func (m *Manager) own() *beat {
	return &beat{
		Version: formatVersion, Owner: m.id, Host: m.host, Process: m.process, Count: m.count,
		LeaseMillis: m.cfg.Duration.Milliseconds(), Working: m.working,
	}
}

// keepBeating writes heartbeats until ctx is cancelled.
func (m *Manager) keepBeating(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Duration / beatsPerLease)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := m.beat(ctx)
		if err == nil && m.isSingle() {
			_, err = m.rivals(ctx)
		}
		m.releaseLeft(ctx)
		if err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("heartbeat failed", "err", err)
		}
	}
}

// owners lists the compactors that have a heartbeat, without this one.
func (m *Manager) owners(ctx context.Context) ([]string, error) {
	m.mu.Lock()
	me := m.id
	m.mu.Unlock()
	var out []string
	err := m.cfg.Bucket.List(ctx, beatDir, func(o bucket.Object) error {
		id, ok := strings.CutSuffix(path.Base(o.Name), ".json")
		if ok && id != me && validID.MatchString(id) {
			out = append(out, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list heartbeats: %w", err)
	}
	return out, nil
}

// observation is what this process knows about another one.
type observation struct {
	beat *beat
	// same is how long the heartbeat has been the same.
	same        time.Duration
	alive, dead bool
}

// observe reads the heartbeat of another compactor.
func (m *Manager) observe(ctx context.Context, owner string) (observation, error) {
	b, err := m.readBeat(ctx, owner)
	if err != nil {
		return observation{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	same := m.watch.see(m.now(), owner, b)
	dead := silent(same, b, m.cfg.Duration)
	return observation{beat: b, same: same, alive: !dead && m.watch[owner].changed, dead: dead}, nil
}

// rivals looks for other compactors on a bucket without conditional writes. It returns how
// many may still be alive, and ErrConflict, which stays, if this one must not run.
func (m *Manager) rivals(ctx context.Context) (waiting int, err error) {
	ids, err := m.owners(ctx)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		o, err := m.observe(ctx, id)
		if err != nil {
			return 0, err
		}
		m.mu.Lock()
		verdict := judge(m.own(), o.beat, o.alive, o.dead)
		if verdict == refuse {
			m.conflict = fmt.Errorf("%w: bucket %s has no conditional writes, so a single compactor may run on it, and compactor %s on %s, with the heartbeat %s, is running: stop one, or give both disjoint parts by --selector.relabel-config and --compact.leases=none",
				ErrConflict, m.cfg.Bucket.Name(), id, o.beat.Host, beatName(id))
			err = m.conflict
		}
		m.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if verdict == await {
			waiting++
		}
		if o.dead && o.beat != nil {
			m.forget(ctx, id)
		}
	}
	return waiting, nil
}

// settle waits until all other heartbeats have ended.
func (m *Manager) settle(ctx context.Context) error {
	m.mu.Lock()
	m.conflict = nil
	m.mu.Unlock()
	for {
		waiting, err := m.rivals(ctx)
		if err != nil {
			return err
		}
		if waiting == 0 {
			m.mu.Lock()
			m.working = true
			m.mu.Unlock()
			return m.beat(ctx)
		}
		if err := m.pause(ctx); err != nil {
			return err
		}
		if err := m.beat(ctx); err != nil {
			return err
		}
	}
}

// pause waits for the time between two heartbeats.
func (m *Manager) pause(ctx context.Context) error {
	t := time.NewTimer(m.cfg.Duration / beatsPerLease)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// AnySilent waits until it knows of each owner whether it is alive, for up to its lease
// time, and says whether one is not, so that its leases can be taken.
func (m *Manager) AnySilent(ctx context.Context, owners []string) (bool, error) {
	alive := map[string]bool{}
	first := map[string]uint64{}
	for {
		for _, owner := range owners {
			o, err := m.observe(ctx, owner)
			switch {
			case err != nil:
				return false, err
			case o.dead:
				return true, nil
			case o.beat == nil:
				if _, seen := first[owner]; seen {
					return true, nil // it has ended in order
				}
				continue
			}
			if n, seen := first[owner]; seen && n != o.beat.Count {
				alive[owner] = true
			} else if !seen {
				first[owner] = o.beat.Count
			}
		}
		if len(alive) == len(owners) {
			return false, nil
		}
		if err := m.pause(ctx); err != nil {
			return false, err
		}
	}
}

// Sweep deletes the heartbeats of compactors that ended long ago. The caller has the lease
// of the whole bucket.
func (m *Manager) Sweep(ctx context.Context) error {
	if m.cfg.Disabled {
		return nil
	}
	ids, err := m.owners(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		o, err := m.observe(ctx, id)
		if err != nil {
			return err
		}
		if o.dead && o.same >= forgetAfter*m.cfg.Duration {
			m.forget(ctx, id)
		}
	}
	return nil
}

// forget deletes a heartbeat. A compactor that was only paused writes it again.
func (m *Manager) forget(ctx context.Context, id string) {
	if err := m.cfg.Bucket.Delete(ctx, beatName(id)); err != nil && ctx.Err() == nil {
		m.cfg.Logger.Warn("cannot delete heartbeat", "err", err)
	}
}
