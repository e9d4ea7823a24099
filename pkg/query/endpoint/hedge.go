package endpoint

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Bounds of second tries within an endpoint group.
const (
	// hedgeFloor is the shortest wait for the first frame before a second member is
	// asked.
	hedgeFloor = 50 * time.Millisecond
	// hedgeShare of the requests may be asked twice because the first is slow, and
	// hedgeBurst at once.
	hedgeShare = 0.05
	hedgeBurst = 10
	// sameMember bounds how often a second try that went to the first member is made
	// again.
	sameMember = 4
)

// hedge decides about second tries of one endpoint group, of which any member may
// answer. A member that has not sent its first frame within the 95th percentile of the
// recent waits gets competition. Tail latency of one member then does not become that of
// the group (Dean and Barroso, The Tail at Scale, 2013). It may be used concurrently; a
// nil hedge allows none.
type hedge struct {
	metrics *metrics

	mtx    sync.Mutex
	waits  [paceWindow]time.Duration
	number int
	tokens float64
}

// after is how long the first member may take now; false means as long as it likes.
func (h *hedge) after() (time.Duration, bool) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.tokens = min(hedgeBurst, h.tokens+hedgeShare)
	n := min(h.number, paceWindow)
	if n < paceEnough {
		return 0, false
	}
	known := slices.Sorted(slices.Values(h.waits[:n]))
	return max(hedgeFloor, known[(n*95-1)/100]), true
}

// take takes a token for a second try.
func (h *hedge) take() bool {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}

// refund returns the token of a second try that won. The first member may hang for long,
// and then each request that it gets needs one. Where all members are slow, the first try
// mostly wins, for it began earlier; second tries stay below twice hedgeShare.
func (h *hedge) refund() {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.tokens = min(hedgeBurst, h.tokens+1)
}

func (h *hedge) waited(d time.Duration) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.waits[h.number%paceWindow] = d
	h.number++
}

// attempt is a request to one member. Its goroutine owns set until it is in the channel
// of its hedgedSet.
type attempt struct {
	second bool
	start  time.Time
	cancel context.CancelCauseFunc
	set    storeapi.SeriesSet
	// ok is what the first Next of set returned.
	ok bool
}

// hedgedSet is the answer of that member of a group which answers first.
type hedgedSet struct {
	hedge *hedge
	ctx   context.Context
	open  func(context.Context) storeapi.SeriesSet
	first member

	results chan *attempt
	running []*attempt
	wg      sync.WaitGroup
	// won is the attempt that is read; nil before the first Next.
	won *attempt
}

// newHedgedSet asks the first member.
func newHedgedSet(ctx context.Context, h *hedge, open func(context.Context) storeapi.SeriesSet) *hedgedSet {
	s := &hedgedSet{hedge: h, ctx: ctx, open: open, results: make(chan *attempt, 2)}
	s.try(false)
	return s
}

// try asks a member and waits for its first frame in the background.
func (s *hedgedSet) try(second bool) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	a := &attempt{second: second, start: time.Now(), cancel: cancel}
	s.running = append(s.running, a)
	s.wg.Go(func() {
		defer func() { s.results <- a }()
		if !second {
			a.set = s.open(context.WithValue(ctx, memberKey{}, s.first.note))
			a.ok = a.set.Next()
			return
		}
		for range sameMember {
			again, stop := context.WithCancelCause(ctx)
			a.set = s.open(context.WithValue(again, memberKey{}, func(address string) {
				if s.first.is(address) {
					stop(errSameMember)
				}
			}))
			a.ok = a.set.Next()
			if a.ok || !errors.Is(context.Cause(again), errSameMember) {
				return // cancel ends it
			}
			stop(nil)
			_ = a.set.Close() // it was not read
			a.set = storeapi.ErrSet(errSameMember)
		}
	})
}

// choose waits for the first answer, and asks a second member if that is late, or if the
// first one fails.
func (s *hedgedSet) choose() {
	var late <-chan time.Time
	if d, ok := s.hedge.after(); ok {
		timer := time.NewTimer(max(0, d-time.Since(s.running[0].start)))
		defer timer.Stop()
		late = timer.C
	}
	var failed *attempt
	outcome := ""
	for s.won == nil {
		select {
		case <-late:
			late = nil
			if len(s.running) > 1 {
				continue
			}
			if !s.hedge.take() {
				s.hedge.metrics.hedged.WithLabelValues(hedgeNoBudget).Inc()
				continue
			}
			outcome = hedgeFirst
			s.try(true)
		case a := <-s.results:
			err := a.set.Err()
			switch {
			case a.ok || err == nil:
				s.won = a
			case len(s.running) == 1 && s.ctx.Err() == nil && retriable(err):
				failed, outcome, late = a, hedgeFailed, nil
				s.try(true)
			case len(s.running) == 2 && failed == nil && s.ctx.Err() == nil:
				failed = a // the other may still answer
			default:
				s.won = a
				if failed != nil && !failed.second {
					s.won, failed = failed, a // its error counts
				}
			}
		}
	}
	s.settle(failed, outcome)
}

// settle ends the attempt that has not won and counts the outcome.
func (s *hedgedSet) settle(failed *attempt, outcome string) {
	if s.ctx.Err() == nil {
		s.hedge.waited(time.Since(s.won.start))
	}
	if failed != nil {
		_ = failed.set.Close() // it was not read
	}
	for _, a := range s.running {
		if a != s.won && a != failed {
			a.cancel(context.Canceled)
			s.wg.Go(func() {
				lost := <-s.results
				_ = lost.set.Close() // it was not read
			})
		}
	}
	if outcome == "" {
		return
	}
	if s.won.ok || s.won.set.Err() == nil {
		if s.won.second {
			if outcome == hedgeFirst {
				s.hedge.refund()
			}
			outcome = hedgeSecond
		}
	} else {
		outcome = hedgeFailed
	}
	s.hedge.metrics.hedged.WithLabelValues(outcome).Inc()
}

// retriable reports whether another member may do better.
func retriable(err error) bool {
	return !errors.Is(err, limit.ErrExceeded) && !errors.Is(err, storeapi.ErrInvalid) && !errors.Is(err, storeapi.ErrPartial)
}

// Next implements storeapi.SeriesSet.
func (s *hedgedSet) Next() bool {
	if s.won == nil {
		s.choose()
		return s.won.ok
	}
	return s.won.ok && s.won.set.Next()
}

// At implements storeapi.SeriesSet.
func (s *hedgedSet) At() storeapi.Series { return s.won.set.At() }

// Err implements storeapi.SeriesSet.
func (s *hedgedSet) Err() error {
	if s.won == nil {
		return nil
	}
	return s.won.set.Err()
}

// Warnings implements storeapi.SeriesSet.
func (s *hedgedSet) Warnings() storeapi.Warnings {
	if s.won == nil {
		return nil
	}
	return s.won.set.Warnings()
}

// Stats implements storeapi.SeriesSet.
func (s *hedgedSet) Stats() storeapi.Stats {
	if s.won == nil {
		return storeapi.Stats{}
	}
	return s.won.set.Stats()
}

// Close implements storeapi.SeriesSet. It waits until nothing runs any more.
func (s *hedgedSet) Close() error {
	for _, a := range s.running[:1] {
		if s.won == nil {
			a.cancel(context.Canceled)
			s.won = <-s.results // the only one
		}
	}
	err := s.won.set.Close()
	for _, a := range s.running {
		a.cancel(context.Canceled)
	}
	s.wg.Wait()
	return err
}
