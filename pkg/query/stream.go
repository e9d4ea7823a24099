package query

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// batchesAhead is how many full batches of a stream wait for the evaluator, beside
// the one that it reads and the one that is being filled.
const batchesAhead = 1

// freeBatches is how many batches without series a stream keeps. The workers of the
// evaluator release several at about the same time.
const freeBatches = 16

// streams is the eval.Storage of one query: it streams the series of selectors and
// holds no selector whole. It may be used concurrently.
//
// Reading runs ahead of the evaluator by a few batches for each stream, so that
// network and evaluation overlap. MaxConcurrentSelects bounds how many streams receive
// at the same time. A stream whose batches are full gives its place to another: a
// stream that is open and not read blocks none.
type streams struct {
	store storeapi.Store
	cfg   *QueryableConfig
	gate  chan struct{}
}

// streams returns the storage of one query.
func (q *Queryable) streams() eval.Storage {
	return &streams{store: q.store, cfg: &q.cfg, gate: make(chan struct{}, q.cfg.MaxConcurrentSelects)}
}

// Select implements eval.Storage. The request is the same as that of
// querier.Select, but for the order: the stores sort without replica labels, so that
// all sources of a series follow each other.
func (s *streams) Select(ctx context.Context, sel eval.Selector) eval.SeriesStream {
	queryCtx := ctx
	ctx, cancel := context.WithCancel(ctx)
	one, r, view := s.cfg.selection(ctx, sel.Hints.Start, sel.Hints.End, sel.Hints, sel.Matchers)
	one.cancel = cancel
	steps := one.steps
	one.steps = 0 // the evaluator does not hold the steps of all series
	r.SortWithout = one.group.drop
	st := &stream{
		selection: one, ctx: queryCtx, view: view, order: r.Order(), ring: storeapi.NewOrder(one.group.ring),
		gate: s.gate, steps: steps,
		batches: make(chan *batch, batchesAhead),
		free:    make(chan *batch, freeBatches),
	}
	go st.run(ctx, func() storeapi.SeriesSet { return s.store.Select(ctx, r) })
	return st
}

// stream implements eval.SeriesStream. The goroutine that runs it owns selection until
// it closes batches; the reader of the stream owns it after that.
type stream struct {
	*selection
	// ctx is that of the query, which reads the stream.
	ctx  context.Context
	view *view
	// order is that of the stream: its keys are the labels of the result. ring leaves
	// out the labels in which copies of one source differ.
	order, ring storeapi.Order
	gate        chan struct{}
	// steps is the number of steps at which each series is evaluated.
	steps int64
	// receiving says that the goroutine has a place in gate.
	receiving bool
	batches   chan *batch
	// free are batches to use again.
	free chan *batch

	cur  *batch
	next int
	// over says that all batches were read, so that selection is the reader's; lost is
	// the error of a query that did not get its slot back after it waited.
	over bool
	lost error

	mtx sync.Mutex
	// held is what the account counts for batches that are in use.
	held   held
	loans  loans
	closed bool
}

// Next implements eval.SeriesStream.
func (s *stream) Next() bool {
	if s.over || s.lost != nil {
		return false
	}
	if s.cur != nil {
		if s.next++; s.next < len(s.cur.series) {
			return true
		}
		s.cur.release()
		s.cur = nil
	}
	ok := true
	select {
	case s.cur, ok = <-s.batches:
	default:
		s.lost = s.account.idle(s.ctx, func() { s.cur, ok = <-s.batches })
	}
	s.next, s.over = 0, !ok
	return ok && s.lost == nil
}

// At implements eval.SeriesStream.
func (s *stream) At() eval.Series { return &s.cur.series[s.next] }

// Err implements eval.SeriesStream.
func (s *stream) Err() error {
	switch {
	case s.lost != nil:
		return s.lost
	case s.over:
		return s.err
	}
	return nil
}

// Warnings implements eval.SeriesStream.
func (s *stream) Warnings() annotations.Annotations {
	if !s.over {
		return nil
	}
	return s.ws
}

// Close ends the stream, waits for its goroutine, and gives its memory back.
func (s *stream) Close() error {
	s.cancel()
	for range s.batches {
	}
	s.mtx.Lock()
	all := s.held
	s.held, s.closed = held{}, true
	s.loans.close()
	s.mtx.Unlock()
	s.account.drop(all)
	s.cur = nil
	return s.closeSet()
}

// recycle takes back a batch of which no series is needed any more.
func (s *stream) recycle(b *batch) {
	for _, m := range s.takeBack(b) {
		m.Recycle()
	}
}

// takeBack is recycle, but for the memory of the set, which it returns.
func (s *stream) takeBack(b *batch) []storeapi.Memory {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.closed {
		return nil
	}
	free := s.loans.end(b.number)
	s.held.add(held{memory: -b.held.memory, samples: -b.held.samples})
	s.account.drop(b.held)
	b.reset()
	select {
	case s.free <- b:
	default:
	}
	return free
}

// charged records what the account counts for a series of the batch.
func (s *stream) charged(b *batch, cost held) {
	b.held.add(cost)
	s.mtx.Lock()
	s.held.add(cost)
	s.mtx.Unlock()
}
