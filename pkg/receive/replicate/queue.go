package replicate

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// queue sends deliveries to one peer. Each lane sends one message at a time and
// keeps the order; deliveries that wait meanwhile are sent together in the next
// message. All deliveries of a tenant use the same lane.
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

// stuck returns how long the message under way has taken, 0 when there is none.
func (l *lane) stuck(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return 0
	}
	return now.Sub(l.since)
}

// arenaShare bounds the memory of all writes under way, as a multiple of QueueBytes.
// Above it, peers with a backlog get no new deliveries.
const arenaShare = 8

func newQueue(address string, node Node, cfg Config, logger *slog.Logger, m *metrics) (*queue, error) {
	q := &queue{
		stop:    make(chan struct{}),
		address: address, node: node, cfg: cfg, metrics: m, seed: maphash.MakeSeed(),
		logger: logger.With("address", address),
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

// start begins to send. Sends ignore the cancellation of ctx; close stops the
// queue.
func (q *queue) start(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for _, l := range q.lanes {
		q.workers.Go(func() { q.run(ctx, l) })
	}
	if q.hints != nil {
		q.workers.Go(func() { q.replay(ctx, q.stop) })
	}
}

// push queues a delivery, which the queue owns from then on. It never waits for the
// peer: the delivery fails at once during the back-off of the peer and when the
// queue is full. It must not be called after close, which the lock of the Writer
// guarantees.
func (q *queue) push(d *Delivery) {
	l := q.lanes[0]
	if len(q.lanes) > 1 {
		l = q.lanes[maphash.String(q.seed, d.Parts[0].Tenant)%uint64(len(q.lanes))]
	}
	if err := q.admit(d, l.stuck(d.since)); err != nil {
		q.fail(d, err)
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

// slowAfter divides the timeout of a message: a peer that takes longer than that
// for one message is slow. Deliveries to a slow peer fail at once, so that senders
// do not wait for it.
const slowAfter = 2

// admit counts a delivery as waiting, or returns why the peer gets none.
func (q *queue) admit(d *Delivery, stuck time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return remotewrite.Errorf(remotewrite.Unavailable, "peer %s is no longer in the hashring", q.address)
	case q.pause.open(d.since):
		return remotewrite.Errorf(remotewrite.Unavailable, "peer %s is in back-off after: %w", q.address, q.lastErr)
	}
	if text, why := q.slow(d, stuck); why != "" {
		if !q.shedding {
			q.logger.Warn("peer too slow", "reason", why, "duration", stuck, "bytes", q.bytes)
		}
		q.shedding = true
		return remotewrite.Errorf(remotewrite.Unavailable, "peer %s is slow: %s", q.address, text)
	}
	q.shedding = false
	q.bytes += int64(d.Bytes)
	q.metrics.waiting.WithLabelValues(q.address).Set(float64(q.bytes))
	return nil
}

// slow returns why the queue takes no more deliveries, or "" when it does. The
// caller holds mu.
func (q *queue) slow(d *Delivery, stuck time.Duration) (text string, why reason.Reason) {
	// A delivery holds the whole arena of its write, of which its own part may be
	// small: when all arenas together exceed their bound, peers with a backlog get no
	// more.
	crowded := d.tracker.held.Load() > arenaShare*q.cfg.QueueBytes && q.bytes > q.cfg.QueueBytes/arenaShare
	// Once full, the queue lets its backlog shrink to half before it takes more,
	// so that a slow peer does not alternate with every request. An empty queue takes
	// any delivery, as one above the bound would never fit.
	full := q.bytes > 0 && q.bytes+int64(d.Bytes) > q.cfg.QueueBytes || q.shedding && q.bytes > q.cfg.QueueBytes/2
	switch {
	case stuck > q.cfg.Timeout/slowAfter:
		return fmt.Sprintf("it has not answered for %s", stuck.Round(time.Millisecond)), reason.PeerNotAnswering
	case crowded || full:
		return fmt.Sprintf("%d bytes wait for it", q.bytes), reason.QueueFull
	}
	return "", ""
}

// run sends the deliveries of a lane until its channel is closed.
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
	// Send the deliveries that arrived before the channel was closed.
	for ds := l.take(q.cfg.MessageBytes); len(ds) > 0; ds = l.take(q.cfg.MessageBytes) {
		q.send(ctx, ds)
	}
}

// take removes the deliveries of the next message: at least one, and more while
// they fit.
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

// send sends one message, or fails its deliveries during the back-off.
func (q *queue) send(ctx context.Context, ds []*Delivery) {
	size := int64(0)
	for _, d := range ds {
		size += int64(d.Bytes)
	}
	q.mu.Lock()
	paused, lastErr := q.pause.open(time.Now()), q.lastErr
	q.mu.Unlock()
	if paused {
		// The peer failed while these were waiting.
		err := remotewrite.Errorf(remotewrite.Unavailable, "peer %s is in back-off after: %w", q.address, lastErr)
		for _, d := range ds {
			q.fail(d, err)
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

// settle reports the results and updates the back-off, which depends only on
// whether the peer answers: a tenant that it cannot store does not delay others.
func (q *queue) settle(ds []*Delivery, errs [][]error, down error) {
	q.mu.Lock()
	if down == nil {
		if q.pause.failures > 0 {
			q.logger.Info("peer reachable again")
		}
		q.pause.succeeded()
		q.lastErr = nil
	} else {
		if q.pause.failures == 0 {
			q.logger.Warn("peer unreachable", "err", down)
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

// fail ends a delivery that was not sent.
func (q *queue) fail(d *Delivery, err error) {
	errs := make([]error, len(d.Parts))
	for i := range errs {
		errs[i] = err
	}
	q.keep(d, errs)
	d.finish(errs)
}

// keep appends the parts that the peer may store later to the hint log.
func (q *queue) keep(d *Delivery, errs []error) {
	for i, err := range errs {
		kind := remotewrite.KindOf(err)
		if err == nil {
			continue
		}
		q.metrics.forwarded.WithLabelValues(kind.String()).Inc()
		// Senders repeat their metadata by themselves.
		if q.hints != nil && len(d.Parts[i].sets) > 0 && (kind == remotewrite.Unavailable || kind == remotewrite.NotReady) {
			q.addHint(d.Parts[i])
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

// discard closes the queue of a peer that has left the ring and deletes its hints,
// as the series have other replicas now.
func (q *queue) discard() error {
	err := q.close()
	if q.hints != nil {
		err = errors.Join(err, q.hints.remove())
	}
	q.metrics.hintBytes.DeleteLabelValues(q.address)
	q.metrics.waiting.DeleteLabelValues(q.address)
	return err
}

// close sends the waiting deliveries, each message with the usual timeout, and
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
