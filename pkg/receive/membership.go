package receive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/receive/discovery"
	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/members"
	"github.com/hindsight-io/hindsight/pkg/receive/peer"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// membership makes the hashring of the members that discovery finds. It asks every
// receiver for its state, keeps the members in a file, so that a restart has the ring at
// once, and loads each new ring.
type membership struct {
	r       *Receive
	logger  *slog.Logger
	sources []discovery.Source
	metrics *membershipMetrics
	file    string
	// changed asks for an update.
	changed chan struct{}
	// departing is set while this node leaves the ring for good.
	departing atomic.Bool
	// self is the last address of this node in a ring.
	self atomic.Pointer[string]

	updating sync.Mutex // held by an update; guards the fields up to logged
	conns    map[string]*grpc.ClientConn
	saved    time.Time
	refused  string    // the last error of a ring, which is reported once
	logged   time.Time // when a failure of discovery was logged; zero while it works

	mu    sync.Mutex
	set   *members.Set
	last  members.Observation
	error error // of the last update
}

type membershipMetrics struct {
	members  *prometheus.GaugeVec
	changes  *prometheus.CounterVec
	failures prometheus.Counter
}

// newMembershipMetrics registers the metrics of the discovery of members.
func newMembershipMetrics(reg prometheus.Registerer) *membershipMetrics {
	f := promauto.With(reg)
	m := &membershipMetrics{
		members: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_receive_members",
			Help: "Receivers that discovery finds, by state: in the hashring (ring), or not yet (waiting).",
		}, []string{"state"}),
		changes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_member_changes_total",
			Help: "Receivers that joined the hashring, or left it, by the reason.",
		}, []string{"reason"}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_member_discovery_failures_total",
			Help: "Attempts to find the members of the hashring that failed. The ring stays as it is.",
		}),
	}
	for _, state := range [...]string{stateRing, stateWaiting} {
		m.members.WithLabelValues(state)
	}
	for _, why := range [...]string{memberJoined, reason.MemberLeaving.String(), reason.MemberScaledDown.String(), reason.MemberLost.String()} {
		m.changes.WithLabelValues(why)
	}
	return m
}

// Values of the label "state" of members, and the reason of a change that is no loss.
const (
	stateRing    = "ring"
	stateWaiting = "waiting"
	memberJoined = "joined"
)

// membersFile is in the directory of the tenants. Files there are no tenants.
const membersFile = "hashring-members.json"

// failureLogInterval is the time between two log lines of a discovery that goes on failing.
const failureLogInterval = time.Minute

// settlePeriod is how long the first ring waits for receivers that do not take writes yet.
const settlePeriod = 15 * time.Second

func newMembership(r *Receive, deps Deps) (*membership, error) {
	m := &membership{
		r: r, logger: r.logger, metrics: newMembershipMetrics(deps.Registerer), changed: make(chan struct{}, 1),
		file: filepath.Join(r.cfg.TSDB.Path, membersFile), conns: map[string]*grpc.ClientConn{},
		set: members.New(r.memberConfig(), members.Saved{}, time.Now()),
	}
	for _, address := range r.cfg.Members {
		s, err := discovery.Parse(address, discovery.Config{Logger: r.logger, Credentials: r.cfg.KubernetesCredentials})
		if err != nil {
			return nil, flags.Invalid(fmt.Errorf("--receive.members: %w", err))
		}
		m.sources = append(m.sources, s)
	}
	return m, nil
}

func (r *Receive) memberConfig() members.Config {
	return members.Config{
		Replicas: r.cfg.ReplicationFactor, Timeout: r.cfg.MembersTimeout.Duration(),
		Settle: min(settlePeriod, 3*r.cfg.MembersInterval.Duration()),
	}
}

// open loads the ring of the last run, or waits until discovery has answered once. It
// does not wait for a ring: nodes that start one after the other, each when the one
// before is ready, would wait for ever.
func (m *membership) open(ctx context.Context) error {
	m.r.waitFor("the members of the hashring")
	if err := m.restore(); err != nil {
		m.logger.Warn("members of the last run not known", "err", err)
	}
	known := len(m.ring()) > 0
	if known {
		if err := m.r.loadRing(ctx); err != nil {
			return err
		}
	}
	for {
		err := m.update(ctx, false)
		if err == nil || known {
			return nil
		}
		m.r.waitFor("the members of the hashring: " + err.Error())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(m.r.cfg.MembersInterval.Duration()):
		}
	}
}

// restore reads the members of the last run.
func (m *membership) restore() error {
	var saved members.Saved
	content, err := vfs.OS().ReadFile(m.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the members of the hashring: %w", err)
	}
	if err := json.Unmarshal(content, &saved); err != nil {
		return fmt.Errorf("read the members of the hashring from %s: %w", m.file, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set = members.New(m.r.memberConfig(), saved, time.Now())
	return nil
}

func (m *membership) ring() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set.Ring()
}

// rings returns the hashring of the members as a file would have it; rings is nil before
// there is one.
func (m *membership) rings() (content []byte, rings *hashring.Rings, err error) {
	ring := m.ring()
	if len(ring) == 0 {
		return nil, nil, nil
	}
	content, err = json.Marshal([]map[string]any{{"hashring": "default", "endpoints": ring}})
	if err != nil {
		return nil, nil, err
	}
	rings, err = m.r.cfg.parseRings("of the discovered members", content)
	return content, rings, err
}

// watch updates the ring regularly and when a source reports a change.
func (m *membership) watch(ctx context.Context) error {
	defer m.closeAll()
	var g errgroup.Group
	for _, s := range m.sources {
		g.Go(func() error {
			return s.Watch(ctx, func() {
				select {
				case m.changed <- struct{}{}:
				default:
				}
			})
		})
	}
	ticker := time.NewTicker(m.r.cfg.MembersInterval.Duration())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-ticker.C:
		case <-m.changed:
		}
		_ = m.update(ctx, false) // reported
	}
}

// update looks for receivers, asks them for their state, and loads the ring when it has
// changed. fresh does not use what a watch has found. The error is that of discovery.
func (m *membership) update(ctx context.Context, fresh bool) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	o := members.Observation{Complete: true, Pods: map[string]int{}}
	var errs []error
	for _, s := range m.sources {
		result, err := s.Fetch(ctx, fresh)
		if err != nil {
			o.Complete = false
			errs = append(errs, err)
			continue
		}
		o.Found = append(o.Found, result.Found...)
		for set, n := range result.Pods {
			o.Pods[set] = n
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := errors.Join(errs...)
	m.report(err)
	o.Answers = m.ask(ctx, m.addresses(&o))
	o.Now = time.Now()
	m.mu.Lock()
	c := m.set.Observe(&o)
	m.last, m.error = o, err
	m.mu.Unlock()
	m.count(&o, c)
	m.save(!c.Empty())
	switch err := m.r.loadRing(ctx); {
	case err == nil:
		m.refused = ""
	case err.Error() != m.refused:
		m.refused = err.Error()
		m.r.metrics.ringFailures.Inc()
		m.logger.Error("hashring rejected", "err", err)
	}
	return err
}

// report counts a failure of discovery. It logs the first one of several that follow each
// other, and then one a minute: errors of a lookup differ by the port that it used.
func (m *membership) report(err error) {
	if err == nil {
		m.logged = time.Time{}
		return
	}
	m.metrics.failures.Inc()
	if now := time.Now(); now.Sub(m.logged) >= failureLogInterval {
		m.logger.Warn("members of the hashring not found; the ring stays as it is", "err", err)
		m.logged = now
	}
}

// count sets the metrics, and logs the change of the ring.
func (m *membership) count(o *members.Observation, c members.Change) {
	for _, address := range c.Joined {
		m.metrics.changes.WithLabelValues(memberJoined).Inc()
		m.logger.Info("member joined the hashring", "address", address)
	}
	for _, d := range c.Left {
		m.metrics.changes.WithLabelValues(string(d.Reason)).Inc()
		m.logger.Info("member left the hashring", "address", d.Address, "reason", d.Reason)
	}
	ring, waiting := m.ring(), 0
	for _, f := range o.Found {
		if !slices.Contains(ring, f.Address) {
			waiting++
		}
	}
	m.metrics.members.WithLabelValues(stateRing).Set(float64(len(ring)))
	m.metrics.members.WithLabelValues(stateWaiting).Set(float64(waiting))
}

// save keeps the members for the next run: when they change, and now and then, because
// the time counts for members that are gone after a restart.
func (m *membership) save(changed bool) {
	now := time.Now()
	if !changed && now.Sub(m.saved) < m.r.cfg.MembersTimeout.Duration()/4 {
		return
	}
	m.mu.Lock()
	saved := m.set.Saved(now)
	m.mu.Unlock()
	if len(saved.Members) == 0 {
		return
	}
	content, err := json.Marshal(saved)
	if err == nil {
		err = vfs.WriteBytes(vfs.OS(), m.file, 0o640, content)
	}
	if err != nil {
		m.logger.Warn("members of the hashring not saved", "file", m.file, "err", err)
		return
	}
	m.saved = now
}

// addresses are the receivers to ask: those that are found, and the members.
func (m *membership) addresses(o *members.Observation) []string {
	all := m.ring()
	for _, f := range o.Found {
		all = append(all, f.Address)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// askTimeout bounds the question for the state of a receiver.
const askTimeout = 2 * time.Second

// ask asks the receivers for their state, at the same time, this node too, and closes
// the connections to others.
func (m *membership) ask(ctx context.Context, addresses []string) map[string]members.Answer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for address, conn := range m.conns {
		if !slices.Contains(addresses, address) {
			_ = conn.Close() // nothing is under way
			delete(m.conns, address)
		}
	}
	var (
		g   errgroup.Group
		mu  sync.Mutex
		out = map[string]members.Answer{}
	)
	g.SetLimit(64)
	for _, address := range addresses {
		conn := m.conns[address]
		if conn == nil {
			var err error
			if conn, err = m.r.cfg.connect(address, grpc.WithTransportCredentials(m.r.peerTLS.Credentials())); err != nil {
				continue // an address that gRPC does not accept never answers
			}
			m.conns[address] = conn
		}
		g.Go(func() error {
			state, err := peer.AskMember(ctx, conn)
			answer := members.Starting
			switch {
			case err != nil:
				return nil
			case state == peer.MemberReady:
				answer = members.Ready
			case state == peer.MemberLeaving:
				answer = members.Leaving
			}
			mu.Lock()
			defer mu.Unlock()
			out[address] = answer
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	return out
}

// closeAll closes the connections.
func (m *membership) closeAll() {
	m.updating.Lock()
	defer m.updating.Unlock()
	for address, conn := range m.conns {
		_ = conn.Close() // nothing is under way
		delete(m.conns, address)
	}
}

// scaledDown reports whether the StatefulSet of this node has it no more.
func (m *membership) scaledDown() bool {
	self := m.self.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	return self != nil && m.set.Unwanted(*self, &m.last)
}

// memberState is the state of this node for its peers.
func (r *Receive) memberState() peer.MemberState {
	what := r.ready.Load()
	switch {
	case r.membership != nil && r.membership.departing.Load():
		return peer.MemberLeaving
	case what != nil && *what == storageToOpen:
		return peer.MemberStarting
	}
	return peer.MemberReady
}

// discoveryState describes the discovery of members for the page /ring.
type discoveryState struct {
	Error string `json:"error,omitempty"`
	// Waiting are the receivers that are found and not in the ring.
	Waiting []string `json:"waiting,omitempty"`
}

// discovery returns nil without discovery.
func (r *Receive) discovery() *discoveryState {
	m := r.membership
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out, ring := &discoveryState{}, m.set.Ring()
	if m.error != nil {
		out.Error = m.error.Error()
	}
	for _, f := range m.last.Found {
		if !slices.Contains(ring, f.Address) {
			out.Waiting = append(out.Waiting, f.Address)
		}
	}
	return out
}
