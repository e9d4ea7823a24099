package replicate

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// replay delivers the hints of the peer while it is reachable, until stop is
// closed. It sends one message at a time, so that new writes come first.
func (q *queue) replay(ctx context.Context, stop <-chan struct{}) {
	ticker := time.NewTicker(q.cfg.ReplayInterval)
	defer ticker.Stop()
	// A peer that answers but cannot store some hints is tried less often.
	pause := backoff{first: 2 * q.cfg.ReplayInterval, most: 60 * q.cfg.ReplayInterval}
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		if !q.reachable() || q.hints.bytes() == 0 || pause.open(time.Now()) {
			continue
		}
		r, err := q.replaySegments(ctx, stop)
		if err != nil {
			q.logger.Debug("hints not delivered", "err", err)
		}
		if r.refused > 0 {
			q.logger.Warn("hints rejected by peer", "hints", r.refused, "request_id", r.refusedID, "err", r.refusal)
		}
		if r.requeued > 0 {
			q.logger.Warn("hints requeued", "hints", r.requeued, "err", r.failure)
			pause.failed(time.Now())
		} else {
			pause.succeeded()
		}
		q.metrics.hintBytes.WithLabelValues(q.address).Set(float64(q.hints.bytes()))
	}
}

// reachable reports whether hints may be sent. It also ends the slow state of a
// peer whose backlog is gone, as there may be no new write to do so.
func (q *queue) reachable() bool {
	now := time.Now()
	for _, l := range q.lanes {
		if l.stuck(now) > q.cfg.Timeout/slowAfter {
			return false
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes <= q.cfg.QueueBytes/2 {
		q.shedding = false
	}
	return !q.pause.open(now) && !q.shedding
}

// replayed counts the hints that a replay did not store, with the first error of
// each kind.
type replayed struct {
	refused int // dropped
	refusal error
	// refusedID is the id of the request of the last refused hint.
	refusedID string
	requeued  int // at the end of the log
	failure   error
}

// requeue appends hints of tenants that the peer cannot store now to the end of the
// log, so that other tenants do not wait for them.
func (q *queue) requeue(hints []hint) {
	for _, h := range hints {
		q.addHint(Part{Tenant: h.tenant, RequestID: h.requestID, Replica: h.replica, Regions: [][]byte{h.series}})
	}
}

// replaySegments delivers the segments that are in the log now, oldest first. A
// segment that was delivered in part is delivered again from its beginning later:
// samples that the peer has already are no conflict.
func (q *queue) replaySegments(ctx context.Context, stop <-chan struct{}) (result replayed, err error) {
	for last := q.hints.last(); ; {
		r, err := q.hints.take(last)
		if r == nil || err != nil {
			return result, err
		}
		err = q.replaySegment(ctx, r, &result, stop)
		if closeErr := r.close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return result, err
		}
		q.logger.Info("hints delivered", "segment", r.number)
		if err := q.hints.done(r.number); err != nil && !errors.Is(err, os.ErrNotExist) {
			return result, err
		}
	}
}

// replaySegment delivers one segment. An error means that the segment stays.
func (q *queue) replaySegment(ctx context.Context, r *hintReader, result *replayed, stop <-chan struct{}) error {
	var back []hint // requeued only at the end of the segment, which is not delivered again
	for {
		select {
		case <-stop:
			return errors.New("stopping")
		default:
		}
		h, err := r.next()
		if errors.Is(err, io.EOF) {
			q.requeue(back)
			return nil
		}
		if err != nil {
			// The rest of the segment cannot be read; the other segments can.
			q.logger.Warn("hint log segment damaged", "segment", r.number, "err", err)
			q.requeue(back)
			return nil
		}
		err, down := q.deliver(ctx, h)
		kind := remotewrite.KindOf(err)
		switch {
		case err == nil:
		case down || kind == remotewrite.NotReady:
			return err
		case kind == remotewrite.Unavailable:
			back = append(back, h)
			result.requeued++
			result.failure = err
		default:
			// A rejection because of the data or of a tenant limit is final, as it is
			// for live writes.
			result.refused++
			result.refusal, result.refusedID = err, h.requestID
		}
	}
}

// deliver sends one hint. down reports that the peer cannot be reached.
func (q *queue) deliver(ctx context.Context, h hint) (failed error, down bool) {
	arena := remotewrite.NewBuffer(len(h.series))
	defer arena.Release()
	arena.B = append(arena.B, h.series...)
	d := &Delivery{
		Parts: []Part{{Tenant: h.tenant, RequestID: h.requestID, Replica: h.replica, Regions: [][]byte{arena.B}}},
		Bytes: len(h.series), arena: arena,
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	errs, why := q.node.Send(ctx, []*Delivery{d})
	if errs == nil || errs[0] == nil || errs[0][0] == nil {
		q.metrics.replayed.WithLabelValues("ok").Inc()
		return nil, false
	}
	q.metrics.replayed.WithLabelValues(remotewrite.KindOf(errs[0][0]).String()).Inc()
	return errs[0][0], why != nil
}

// addHint appends a part to the hint log.
func (q *queue) addHint(p Part) {
	dropped, err := q.hints.append(p)
	if err != nil {
		q.metrics.hintFailures.Inc()
		q.logger.Warn("hint not written", "request_id", p.RequestID, "err", err)
		return
	}
	q.logger.Debug("hint written", "tenant", p.Tenant, "request_id", p.RequestID)
	if dropped > 0 {
		q.metrics.hintsDropped.Add(float64(dropped))
		q.logger.Warn("hint log full; oldest hints dropped", "bytes", dropped)
	}
	q.metrics.hintBytes.WithLabelValues(q.address).Set(float64(q.hints.bytes()))
}
