package replicate

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// replay gives the peer what it has missed, as long as it answers, until stop is
// closed. One message is under way at a time, so that new writes come first.
func (q *queue) replay(ctx context.Context, stop <-chan struct{}) {
	ticker := time.NewTicker(q.cfg.ReplayInterval)
	defer ticker.Stop()
	// While the peer answers but cannot store some of it, it is offered less often.
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
			q.logger.Debug("peer does not take its hints yet", "err", err)
		}
		if r.refused > 0 {
			q.logger.Warn("peer refuses some of what it missed, it has no copy of that", "requests", r.refused, "one_of_them", r.why)
		}
		if r.putBack > 0 {
			q.logger.Warn("peer cannot store some of what it missed, it is offered again later", "requests", r.putBack, "one_of_them", r.whyNot)
			pause.failed(time.Now())
		} else {
			pause.succeeded()
		}
		q.metrics.hintBytes.WithLabelValues(q.address).Set(float64(q.hints.bytes()))
	}
}

// reachable says that the peer answers. One that was slow is again what it was
// when its backlog is gone, even if nobody writes to it meanwhile.
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

// replayed is what became of hints that were not stored.
type replayed struct {
	refused int // for good
	why     error
	putBack int // at the end of the log again
	whyNot  error
}

// putBack appends what the peer could not store of a segment that it has got
// otherwise, so that others do not wait for these tenants.
func (q *queue) putBack(hints []hint) {
	for _, h := range hints {
		q.missedPart(Part{Tenant: h.tenant, Replica: h.replica, Regions: [][]byte{h.series}})
	}
}

// replaySegments delivers, segment by segment, what is in the log now. A segment
// that could not be delivered to its end is begun anew later: samples that the
// peer has already are no conflict.
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
		q.logger.Info("peer has got what it missed", "segment", r.number)
		if err := q.hints.done(r.number); err != nil && !errors.Is(err, os.ErrNotExist) {
			return result, err
		}
	}
}

func (q *queue) replaySegment(ctx context.Context, r *hintReader, result *replayed, stop <-chan struct{}) error {
	var back []hint // of this segment; one that is begun anew is not put back as well
	for {
		select {
		case <-stop:
			return errors.New("stopping")
		default:
		}
		h, err := r.next()
		if errors.Is(err, io.EOF) {
			q.putBack(back)
			return nil
		}
		if err != nil {
			// The rest of the segment cannot be read; the other segments can.
			q.logger.Warn("damaged segment of the hint log is given up", "segment", r.number, "err", err)
			q.putBack(back)
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
			result.putBack++
			result.whyNot = err
		default:
			// What it refuses, for the data or for a limit of the tenant, it refuses
			// of all writes.
			result.refused++
			result.why = err
		}
	}
}

// deliver sends one hint; down says that the peer cannot be reached.
func (q *queue) deliver(ctx context.Context, h hint) (failed error, down bool) {
	arena := remotewrite.NewBuffer(len(h.series))
	defer arena.Release()
	arena.B = append(arena.B, h.series...)
	d := &Delivery{
		Parts: []Part{{Tenant: h.tenant, Replica: h.replica, Regions: [][]byte{arena.B}}},
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

// missedPart notes a part in the hint log.
func (q *queue) missedPart(p Part) {
	dropped, err := q.hints.append(p)
	if err != nil {
		q.metrics.hintFailures.Inc()
		q.logger.Warn("what a peer missed could not be noted", "err", err)
		return
	}
	if dropped > 0 {
		q.metrics.hintsDropped.Add(float64(dropped))
		q.logger.Warn("hint log is full, its oldest part is gone: the peer has lost copies", "bytes", dropped)
	}
	q.metrics.hintBytes.WithLabelValues(q.address).Set(float64(q.hints.bytes()))
}
