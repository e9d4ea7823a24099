package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Local stores series on this node.
type Local interface {
	// Write stores the series of the batch with the given indexes, or all when
	// series is nil. It keeps nothing of the batch.
	Write(ctx context.Context, tenant string, b *remotewrite.Batch, series []uint32) error
}

// Config of a Writer. All fields without a comment saying otherwise are
// needed.
type Config struct {
	// Replicas is the replication factor.
	Replicas int
	// Local stores this node's share.
	Local Local
	// Dial makes the client of a peer. It must not block.
	Dial func(address string) (Node, error)
	// Timeout bounds one message to a peer, and the wait for quorum.
	Timeout time.Duration
	// MaxBackoff bounds the pause after failures of a peer.
	MaxBackoff time.Duration
	// QueueBytes bounds the deliveries that wait for one peer.
	QueueBytes int64
	// MessageBytes is the size at which waiting deliveries are no longer put
	// together into one message.
	MessageBytes int
	// Lanes is the number of messages under way to one peer.
	Lanes int
	// HintsDir is the directory of the hint logs of all peers, HintsBytes the bound
	// for each peer. Empty or 0 disables hints.
	HintsDir   string
	HintsBytes int64
	// FS holds HintsDir; nil is the file system of the operating system.
	FS vfs.FS
	// ReplayInterval is the time between attempts to deliver hints.
	ReplayInterval time.Duration
}

// PeerState describes a peer for the ring page.
type PeerState struct {
	Address      string `json:"address"`
	State        string `json:"state"`
	WaitingBytes int64  `json:"waiting_bytes"`
	HintBytes    int64  `json:"hint_bytes"`
	LastError    string `json:"last_error,omitempty"`
}

// Writer spreads writes over the ring. Write may be called concurrently.
type Writer struct {
	cfg     Config
	logger  *slog.Logger
	metrics *metrics

	mu    sync.RWMutex
	rings *hashring.Rings
	self  string
	peers map[string]*queue

	held   atomic.Int64 // bytes of arenas that deliveries hold
	timers sync.Pool    // stopped timers for reuse
}

type metrics struct {
	forwarded *prometheus.CounterVec
	latency   prometheus.Histogram
	waiting   *prometheus.GaugeVec

	hintBytes    *prometheus.GaugeVec
	hintFailures prometheus.Counter
	hintsDropped prometheus.Counter
	replayed     *prometheus.CounterVec
}

// newMetrics registers the metrics of writes to peers and of hints.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		forwarded: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_forwards_total",
			Help: "Deliveries to peers, by result.",
		}, []string{"result"}),
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "hindsight_receive_forward_duration_seconds",
			Help:    "Time of one message to a peer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		waiting: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_receive_forward_waiting_bytes",
			Help: "Bytes that wait for a peer or are being sent.",
		}, []string{"peer"}),
		hintBytes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_receive_hints_bytes",
			Help: "Bytes in the hint log of a peer.",
		}, []string{"peer"}),
		hintFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_hints_failures_total",
			Help: "Hints that could not be written to disk.",
		}),
		hintsDropped: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_hints_dropped_bytes_total",
			Help: "Bytes of hints that were dropped because the hint log was full.",
		}),
		replayed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_hints_replayed_total",
			Help: "Hints sent to their peer, by result.",
		}, []string{"result"}),
	}
	for _, v := range []*prometheus.CounterVec{m.forwarded, m.replayed} {
		v.WithLabelValues("ok")
		for kind := remotewrite.Other; kind <= remotewrite.Unavailable; kind++ {
			v.WithLabelValues(kind.String())
		}
	}
	return m
}

// NewWriter makes a Writer without rings.
func NewWriter(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *Writer {
	if cfg.ReplayInterval <= 0 {
		cfg.ReplayInterval = time.Second
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS()
	}
	return &Writer{
		cfg: cfg, logger: logger, metrics: newMetrics(reg), peers: map[string]*queue{},
		timers: sync.Pool{New: func() any { return time.NewTimer(time.Hour) }},
	}
}

// errNoRing is the error of writes before the first SetRings.
var errNoRing = fmt.Errorf("no hashring is loaded yet: %w", remotewrite.ErrNotReady)

// SetRings switches to new rings, in which this node is self, or "" when it only
// routes. Peers that stay keep their connections and queues. The queues of peers
// that left are sent before their connections are closed.
func (w *Writer) SetRings(ctx context.Context, rings *hashring.Rings, self string) error {
	wanted := map[string]bool{}
	for _, s := range rings.Specs() {
		for _, e := range s.Endpoints {
			wanted[e.Address] = wanted[e.Address] || !e.Is(self)
		}
	}
	w.mu.Lock()
	if w.rings == nil {
		w.removeUnknownHints(wanted)
	}
	fresh, err := w.prepare(wanted)
	if err != nil {
		w.mu.Unlock()
		return err
	}
	var gone []*queue
	for address, q := range w.peers {
		if !wanted[address] { // left the ring, or is this node now
			gone = append(gone, q)
			delete(w.peers, address)
		}
	}
	for address, q := range fresh {
		q.start(ctx)
		w.peers[address] = q
	}
	w.rings, w.self = rings, self
	w.mu.Unlock()
	return onAll(gone, (*queue).discard)
}

// prepare makes the queues of the peers that are new, which are not started; none after an
// error, as the ring may be loaded again and again. The caller holds mu.
func (w *Writer) prepare(wanted map[string]bool) (fresh map[string]*queue, err error) {
	fresh = map[string]*queue{}
	defer func() {
		if err == nil {
			return
		}
		for _, q := range fresh {
			err = errors.Join(err, q.node.Close())
		}
	}()
	for address, remote := range wanted {
		if w.peers[address] != nil || !remote {
			continue
		}
		node, err := w.cfg.Dial(address)
		if err != nil {
			return fresh, fmt.Errorf("prepare the connection to peer %s: %w", address, err)
		}
		q, err := newQueue(address, node, w.cfg, w.logger, w.metrics)
		if err != nil {
			return fresh, errors.Join(err, node.Close())
		}
		fresh[address] = q
	}
	return fresh, nil
}

// removeUnknownHints deletes the hints of unknown members: peers that left the ring
// while this node was down.
func (w *Writer) removeUnknownHints(wanted map[string]bool) {
	if w.cfg.HintsDir == "" {
		return
	}
	removed, err := removeHints(w.cfg.FS, w.cfg.HintsDir, func(peer string) bool { return wanted[peer] })
	if len(removed) > 0 {
		w.logger.Info("hints of unknown members deleted", "peers", removed)
	}
	if err != nil {
		w.logger.Warn("hints of unknown members not deleted", "err", err)
	}
}

// Close waits until all deliveries have succeeded or failed.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.rings = nil
	var all []*queue
	for address, q := range w.peers {
		all = append(all, q)
		delete(w.peers, address)
	}
	w.mu.Unlock()
	return onAll(all, (*queue).close)
}

// onAll calls f for all queues at once.
func onAll(queues []*queue, f func(*queue) error) error {
	errs := make([]error, len(queues))
	var wg sync.WaitGroup
	for i, q := range queues {
		wg.Go(func() { errs[i] = f(q) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Rings returns the rings in use, nil before the first SetRings, and this
// node's address in them.
func (w *Writer) Rings() (rings *hashring.Rings, self string) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.rings, w.self
}

// Peers describes all peers.
func (w *Writer) Peers() []PeerState {
	w.mu.RLock()
	defer w.mu.RUnlock()
	out := make([]PeerState, 0, len(w.peers))
	for _, q := range w.peers {
		out = append(out, q.state())
	}
	return out
}

// Write stores the requests on the nodes that the ring names and returns when
// every replica set has a quorum, or cannot get one. replica is the number of
// the copy that the sender asks for, or 0 for all. The caller keeps the
// batches, which are not used after the return. Writes to peers continue after
// it; cancelling ctx does not stop them.
func (w *Writer) Write(ctx context.Context, reqs []Request, replica int) error {
	if replica > w.cfg.Replicas {
		return remotewrite.Errorf(remotewrite.Invalid, "replica %d asked for, the replication factor is %d", replica, w.cfg.Replicas)
	}
	plan, t, err := w.dispatch(requestid.FromContext(ctx), reqs, replica)
	if err != nil {
		return err
	}
	defer plan.arena.Release()
	for _, l := range plan.locals {
		series := l.series
		if l.all {
			series = nil
		}
		if err := w.cfg.Local.Write(ctx, l.Tenant, l.Batch, series); err != nil {
			t.reportLocal(&l, err)
		} else {
			t.report(l.sets, nil)
		}
	}
	timer := w.timers.Get().(*time.Timer)
	timer.Reset(w.cfg.Timeout)
	defer func() {
		timer.Stop()
		w.timers.Put(timer)
	}()
	select {
	case <-t.done:
	case <-timer.C:
	}
	return t.result(plan.shares)
}

// dispatch plans the write of the request with the id and hands the peers' parts to their
// queues.
func (w *Writer) dispatch(id string, reqs []Request, replica int) (*plan, *tracker, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.rings == nil {
		return nil, nil, errNoRing
	}
	if w.self == "" {
		replica = 0
	}
	plan, err := spread(reqs, target{
		rings: w.rings, self: w.self, only: replica,
		form: func(address string) (f Form) {
			if q := w.peers[address]; q != nil {
				f = q.node.Form()
			}
			return f
		},
	})
	if err != nil {
		return nil, nil, err
	}
	t := newTracker(plan.Sets)
	if len(plan.peers) > 0 {
		t.held, t.size = &w.held, int64(cap(plan.arena.B))
		if plan.blocks != nil {
			t.size += int64(cap(plan.blocks.B))
		}
		t.left.Store(int32(len(plan.peers)))
		w.held.Add(t.size)
	}
	deliveries, now := make([]Delivery, len(plan.peers)), time.Now()
	for i, p := range plan.peers {
		d := &deliveries[i]
		*d = Delivery{Parts: p.parts, arena: plan.arena, tracker: t, since: now}
		for j := range p.parts {
			p.parts[j].RequestID = id
			for _, r := range p.parts[j].Regions {
				d.Bytes += len(r)
			}
		}
		plan.arena.Retain()
		w.peers[p.address].push(d)
	}
	return plan, t, nil
}
