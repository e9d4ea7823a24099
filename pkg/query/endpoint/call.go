package endpoint

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// calls are the running requests to one store.
type calls struct {
	// checks counts the Info calls that have begun.
	checks atomic.Int64

	mtx     sync.Mutex
	running map[*call]struct{}
}

// call is one running request. It belongs to one goroutine but for cancel and
// waiting.
type call struct {
	calls  *calls
	ctx    context.Context
	cancel context.CancelCauseFunc
	// waiting is 0 while the store is not waited for, otherwise one more than the
	// number of checks that had begun when the wait did.
	waiting atomic.Int64
}

// begin returns a call with a context of its own, which ends with ctx.
func (c *calls) begin(ctx context.Context) *call {
	one := &call{calls: c}
	one.ctx, one.cancel = context.WithCancelCause(ctx)
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.running == nil {
		c.running = map[*call]struct{}{}
	}
	c.running[one] = struct{}{}
	return one
}

// stop ends the calls that have waited for the store since before check n, with
// why as their error. One that makes progress goes on, although the store is too
// busy to answer the check.
func (c *calls) stop(n int64, why error) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	for one := range c.running {
		if since := one.waiting.Load(); since != 0 && since <= n {
			one.cancel(stopped{why})
		}
	}
}

func (c *call) wait()   { c.waiting.Store(c.calls.checks.Load() + 1) }
func (c *call) resume() { c.waiting.Store(0) }

// end frees the call.
func (c *call) end() {
	c.cancel(context.Canceled)
	c.calls.mtx.Lock()
	defer c.calls.mtx.Unlock()
	delete(c.calls.running, c)
}

// stopped is the cause of the end of a call that the endpoint itself stopped.
type stopped struct{ error }

// failure is the error of the call: that of the store, or why it was stopped.
func (c *call) failure(err error) error {
	if s, ok := context.Cause(c.ctx).(stopped); ok && err != nil {
		return s.error
	}
	return err
}

// callSet is the answer to a call.
type callSet struct {
	storeapi.SeriesSet
	call *call
	err  error
}

// Next implements storeapi.SeriesSet.
func (s *callSet) Next() bool {
	s.call.wait()
	ok := s.SeriesSet.Next()
	s.call.resume()
	if !ok && s.err == nil {
		s.err = s.call.failure(s.SeriesSet.Err())
	}
	return ok
}

// Err implements storeapi.SeriesSet.
func (s *callSet) Err() error { return s.err }

// Close implements storeapi.SeriesSet.
func (s *callSet) Close() error {
	s.call.end()
	return s.SeriesSet.Close()
}

// once makes a call whose answer comes as a whole, within the time of the store's
// pace.
func once[T any](ctx context.Context, e *Endpoint, ask func(context.Context) (T, storeapi.Warnings, error)) (T, storeapi.Warnings, error) {
	c := e.calls.begin(ctx)
	defer c.end()
	if limit := e.pace.Limit(ctx); limit > 0 {
		timer := time.AfterFunc(limit, func() {
			c.cancel(stopped{fmt.Errorf("store %s did not answer in %s: %w", e.name, limit.Round(time.Millisecond), storeapi.ErrSilent)})
		})
		defer timer.Stop()
	}
	c.wait()
	start := time.Now()
	got, ws, err := ask(c.ctx)
	if ctx.Err() == nil {
		e.pace.Waited(time.Since(start))
	}
	return got, ws, c.failure(err)
}
