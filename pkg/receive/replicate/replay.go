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
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		if !q.reachable() || q.hints.bytes() == 0 {
			continue
		}
		if err := q.replaySegments(ctx, stop); err != nil {
			q.logger.Debug("peer does not take its hints yet", "err", err)
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

// replaySegments delivers segment by segment. A segment that could not be
// delivered to its end is begun anew later: samples that the peer has already
// are no conflict.
func (q *queue) replaySegments(ctx context.Context, stop <-chan struct{}) error {
	for {
		r, err := q.hints.take()
		if r == nil || err != nil {
			return err
		}
		delivered, err := q.replaySegment(ctx, r, stop)
		if closeErr := r.close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
		if delivered {
			q.logger.Info("peer has got what it missed", "segment", r.number)
			if err := q.hints.done(r.number); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
}

func (q *queue) replaySegment(ctx context.Context, r *hintReader, stop <-chan struct{}) (delivered bool, err error) {
	for {
		select {
		case <-stop:
			return false, errors.New("stopping")
		default:
		}
		h, err := r.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			// The rest of the segment cannot be read; the other segments can.
			q.logger.Warn("damaged segment of the hint log is given up", "segment", r.number, "err", err)
			return true, nil
		}
		if err := q.deliver(ctx, h); err != nil {
			return false, err
		}
	}
}

// deliver sends one hint. Only a peer that cannot be reached is an error: data
// that the peer refuses would be refused for ever.
func (q *queue) deliver(ctx context.Context, h hint) error {
	arena := remotewrite.NewBuffer(len(h.series))
	defer arena.Release()
	arena.B = append(arena.B, h.series...)
	d := &Delivery{
		Parts: []Part{{Tenant: h.tenant, Replica: h.replica, Regions: [][]byte{arena.B}}},
		Bytes: len(h.series), arena: arena,
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	errs := q.node.Send(ctx, []*Delivery{d})
	if errs == nil || errs[0] == nil || errs[0][0] == nil {
		q.metrics.replayed.WithLabelValues("ok").Inc()
		return nil
	}
	err := errs[0][0]
	kind := remotewrite.KindOf(err)
	q.metrics.replayed.WithLabelValues(kind.String()).Inc()
	switch kind {
	case remotewrite.Unavailable, remotewrite.NotReady, remotewrite.LimitExceeded:
		return err
	}
	return nil
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
