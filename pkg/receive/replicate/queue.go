package replicate

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// queue sends deliveries to one peer. Each lane sends one message at a time
// and keeps the order; what waits meanwhile goes out together in the next
// message. A tenant's deliveries always use the same lane.
type queue struct {
	address string
	node    Node
	cfg     Config
	logger  *slog.Logger
	metrics *metrics
	seed    maphash.Seed
	lanes   []*lane
	hints   *hintLog // nil without hints
	stop    chan struct{}

	mu       sync.Mutex
	pause    backoff
	bytes    int64 // waiting or being sent
	lastErr  error
	closed   bool
	shedding bool
	workers  sync.WaitGroup
}

type lane struct {
	mu      sync.Mutex
	waiting []*Delivery
	// since is when the message under way was sent; zero when none is.
	since time.Time
	wake  chan struct{}
}

// stuck is how long the message under way has taken, 0 when none is.
func (l *lane) stuck(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return 0
	}
	return now.Sub(l.since)
}

// arenaShare times the bound of one queue is how much all writes under way may
// hold before peers with a backlog are set aside.
const arenaShare = 8

func newQueue(address string, node Node, cfg Config, logger *slog.Logger, m *metrics) (*queue, error) {
	q := &queue{
		stop:    make(chan struct{}),
		address: address, node: node, cfg: cfg, metrics: m, seed: maphash.MakeSeed(),
		logger: logger.With("peer", address),
		pause:  backoff{first: 100 * time.Millisecond, most: cfg.MaxBackoff},
	}
	for range cfg.Lanes {
		q.lanes = append(q.lanes, &lane{wake: make(chan struct{}, 1)})
	}
	if cfg.HintsDir == "" || cfg.HintsBytes <= 0 {
		return q, nil
	}
	hints, err := openHintLog(cfg.FS, cfg.HintsDir, address, cfg.HintsBytes)
	q.hints = hints
	return q, err
}

// start begins to send. Sends get a context that outlives the cancellation of
// ctx: who stops the queue calls close.
func (q *queue) start(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for _, l := range q.lanes {
		q.workers.Go(func() { q.run(ctx, l) })
	}
	if q.hints != nil {
		q.workers.Go(func() { q.replay(ctx, q.stop) })
	}
}

// push takes a delivery over. Nobody may push once close has begun; the Writer's
// lock sees to that. It does not wait for the peer: when the peer is in its pause,
// or too much is waiting for it, the delivery fails at once.
func (q *queue) push(d *Delivery) {
	l := q.lanes[0]
	if len(q.lanes) > 1 {
		l = q.lanes[maphash.String(q.seed, d.Parts[0].Tenant)%uint64(len(q.lanes))]
	}
	if err := q.admit(d, l.stuck(d.since)); err != nil {
		q.missed(d, err)
		return
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, d)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// slowAfter is the part of the time that a message may take after which a peer
// counts as slow: what comes meanwhile is set aside at once, where it would wait,
// and its senders with it when they need this peer.
const slowAfter = 2

func (q *queue) admit(d *Delivery, stuck time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return remotewrite.Errorf(remotewrite.Unavailable, "peer %s is no longer in the hashring", q.address)
	case q.pause.open(d.since):
		return remotewrite.Errorf(remotewrite.Unavailable, "peer %s is left alone for a moment after: %w", q.address, q.lastErr)
	}
	if why := q.slow(d, stuck); why != "" {
		if !q.shedding {
			q.logger.Warn("peer is too slow, writes to it are set aside", "why", why, "waiting_bytes", q.bytes)
		}
		q.shedding = true
		return remotewrite.Errorf(remotewrite.Unavailable, "peer %s is slow: %s", q.address, why)
	}
	q.shedding = false
	q.bytes += int64(d.Bytes)
	q.metrics.waiting.WithLabelValues(q.address).Set(float64(q.bytes))
	return nil
}

// slow says why no more can wait for the peer now, "" when it can. The caller
// holds mu.
func (q *queue) slow(d *Delivery, stuck time.Duration) string {
	// A delivery holds the whole arena of its write, of which its own part may be
	// small: when all arenas together get too many, who has a backlog gives way.
	crowded := d.tracker.held.Load() > arenaShare*q.cfg.QueueBytes && q.bytes > q.cfg.QueueBytes/arenaShare
	// Once full, the queue lets its backlog shrink to half before it takes more,
	// so that a slow peer does not alternate with every request. An empty one takes
	// any delivery: one that is larger than the bound would never find a place.
	full := q.bytes > 0 && q.bytes+int64(d.Bytes) > q.cfg.QueueBytes || q.shedding && q.bytes > q.cfg.QueueBytes/2
	switch {
	case stuck > q.cfg.Timeout/slowAfter:
		return fmt.Sprintf("it has not answered for %s", stuck.Round(time.Millisecond))
	case crowded || full:
		return fmt.Sprintf("%d bytes wait for it", q.bytes)
	}
	return ""
}

func (q *queue) run(ctx context.Context, l *lane) {
	for range l.wake {
		for {
			ds := l.take(q.cfg.MessageBytes)
			if len(ds) == 0 {
				break
			}
			q.send(ctx, ds)
		}
	}
	// The channel is closed: whatever came in between goes out now.
	for ds := l.take(q.cfg.MessageBytes); len(ds) > 0; ds = l.take(q.cfg.MessageBytes) {
		q.send(ctx, ds)
	}
}

// take removes what goes into the next message: at least one delivery, and
// more while they fit.
func (l *lane) take(limit int) []*Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	l.since = time.Time{}
	for n < len(l.waiting) && (n == 0 || size+l.waiting[n].Bytes <= limit) {
		size += l.waiting[n].Bytes
		n++
	}
	if n == 0 {
		return nil
	}
	l.since = time.Now()
	ds := append([]*Delivery(nil), l.waiting[:n]...)
	rest := copy(l.waiting, l.waiting[n:])
	clear(l.waiting[rest:])
	l.waiting = l.waiting[:rest]
	return ds
}

func (q *queue) send(ctx context.Context, ds []*Delivery) {
	size := int64(0)
	for _, d := range ds {
		size += int64(d.Bytes)
	}
	q.mu.Lock()
	paused, lastErr := q.pause.open(time.Now()), q.lastErr
	q.mu.Unlock()
	if paused {
		// It failed while these were waiting.
		err := remotewrite.Errorf(remotewrite.Unavailable, "peer %s is left alone for a moment after: %w", q.address, lastErr)
		for _, d := range ds {
			q.missed(d, err)
		}
	} else {
		began := time.Now()
		sendCtx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
		errs, down := q.node.Send(sendCtx, ds)
		cancel()
		q.metrics.latency.Observe(time.Since(began).Seconds())
		q.settle(ds, errs, down)
	}
	q.mu.Lock()
	q.bytes -= size
	q.metrics.waiting.WithLabelValues(q.address).Set(float64(q.bytes))
	q.mu.Unlock()
}

// settle hands out the results and notes whether the peer is alive. What it
// cannot store of one tenant keeps nobody else's writes from it.
func (q *queue) settle(ds []*Delivery, errs [][]error, down error) {
	q.mu.Lock()
	if down == nil {
		if q.pause.failures > 0 {
			q.logger.Info("peer answers again")
		}
		q.pause.succeeded()
		q.lastErr = nil
	} else {
		if q.pause.failures == 0 {
			q.logger.Warn("peer cannot be reached", "err", down)
		}
		q.pause.failed(time.Now())
		q.lastErr = down
	}
	q.mu.Unlock()
	for i, d := range ds {
		if errs == nil || errs[i] == nil {
			q.metrics.forwarded.WithLabelValues("ok").Inc()
			d.finish(nil)
			continue
		}
		q.keep(d, errs[i])
		d.finish(errs[i])
	}
}

// missed ends a delivery that was not sent.
func (q *queue) missed(d *Delivery, err error) {
	errs := make([]error, len(d.Parts))
	for i := range errs {
		errs[i] = err
	}
	q.keep(d, errs)
	d.finish(errs)
}

// keep hands the parts that the peer could not take to the hint log.
func (q *queue) keep(d *Delivery, errs []error) {
	for i, err := range errs {
		kind := remotewrite.KindOf(err)
		if err == nil {
			continue
		}
		q.metrics.forwarded.WithLabelValues(kind.String()).Inc()
		// Senders repeat their metadata by themselves.
		if q.hints != nil && len(d.Parts[i].sets) > 0 && (kind == remotewrite.Unavailable || kind == remotewrite.NotReady) {
			q.missedPart(d.Parts[i])
		}
	}
}

// state describes the peer for the ring page.
func (q *queue) state() PeerState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := PeerState{Address: q.address, WaitingBytes: q.bytes, State: "ok"}
	switch {
	case q.pause.failures > 0:
		s.State = "down"
	case q.shedding:
		s.State = "slow"
	}
	if q.hints != nil {
		s.HintBytes = q.hints.bytes()
	}
	if q.lastErr != nil {
		s.LastError = q.lastErr.Error()
	}
	return s
}

// discard closes the queue of a peer that has left the ring and forgets what it
// missed: others have it.
func (q *queue) discard() error {
	err := q.close()
	if q.hints != nil {
		err = errors.Join(err, q.hints.remove())
	}
	q.metrics.hintBytes.DeleteLabelValues(q.address)
	q.metrics.waiting.DeleteLabelValues(q.address)
	return err
}

// close sends what is waiting, each message with the usual time limit, and
// closes the connection.
func (q *queue) close() error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	for _, l := range q.lanes {
		close(l.wake)
	}
	close(q.stop)
	q.workers.Wait()
	err := q.node.Close()
	if q.hints != nil {
		err = errors.Join(err, q.hints.close())
	}
	return err
}
