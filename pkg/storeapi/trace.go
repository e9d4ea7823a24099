package storeapi

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// maxTraced bounds the stores in a Trace, of all selections together.
const maxTraced = 2000

// Trace records which stores the selections of one request asked, which ones they left
// out and why, and what the answers cost. It travels in the context of the request; a
// fan-out writes it. It may be used concurrently; a nil Trace records nothing.
type Trace struct {
	// Dry makes a fan-out choose the stores and ask none of them: its answer is empty.
	// It must not be changed once the Trace is in use.
	Dry bool

	mtx     sync.Mutex
	selects []*TracedSelect
	stores  int
}

// TracedSelect is one selection of a request. A nil one records nothing.
type TracedSelect struct {
	trace *Trace
	// Matchers and times are those of the request, the times inclusive, in milliseconds.
	Matchers         []*labels.Matcher
	MinTime, MaxTime int64
	Stores           []TracedStore
	// More counts the stores beyond the bound of the Trace.
	More int
}

// TracedStore is the part of one store in a selection.
type TracedStore struct {
	Name, Component string
	// Pruned is why the store was not asked; empty when it was.
	Pruned reason.Reason
	// Missing is why a chosen store cannot answer, as known before it is asked; empty
	// when it can.
	Missing reason.Reason
	// Ended says that the answer was read to its proper end. Otherwise Stats may be 0.
	Ended bool
	// Series, Chunks and Bytes count what the store sent; Bytes are those of chunks.
	Series, Chunks, Bytes int64
	// Waited is how long the reader of the answer waited for the store, Duration the
	// time from the request to the end of the answer.
	Waited, Duration time.Duration
	// Stats are those that the store reports itself.
	Stats Stats
	// Failure is the text of the error that ended the answer.
	Failure string
}

type traceKey struct{}

// WithTrace returns ctx with the trace.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceFromContext returns the trace of ctx, or nil.
func TraceFromContext(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}

// Select begins a selection.
func (t *Trace) Select(r *Request) *TracedSelect {
	if t == nil {
		return nil
	}
	s := &TracedSelect{trace: t, Matchers: r.Matchers, MinTime: r.MinTime, MaxTime: r.MaxTime}
	t.mtx.Lock()
	defer t.mtx.Unlock()
	t.selects = append(t.selects, s)
	return s
}

// Add adds a store, and returns the index for End; it is negative when there is no
// room left.
func (s *TracedSelect) Add(store TracedStore) int {
	if s == nil {
		return -1
	}
	s.trace.mtx.Lock()
	defer s.trace.mtx.Unlock()
	if s.trace.stores >= maxTraced {
		s.More++
		return -1
	}
	s.trace.stores++
	s.Stores = append(s.Stores, store)
	return len(s.Stores) - 1
}

// End sets what the answer of the store with the index has cost.
func (s *TracedSelect) End(i int, cost TracedStore) {
	if s == nil || i < 0 {
		return
	}
	s.trace.mtx.Lock()
	defer s.trace.mtx.Unlock()
	to := &s.Stores[i]
	cost.Name, cost.Component, cost.Pruned, cost.Missing = to.Name, to.Component, to.Pruned, to.Missing
	*to = cost
}

// Selects returns the selections, in the order in which they began.
func (t *Trace) Selects() []TracedSelect {
	if t == nil {
		return nil
	}
	t.mtx.Lock()
	defer t.mtx.Unlock()
	out := make([]TracedSelect, 0, len(t.selects))
	for _, s := range t.selects {
		c := *s
		c.Stores = slices.Clone(s.Stores)
		out = append(out, c)
	}
	return out
}
