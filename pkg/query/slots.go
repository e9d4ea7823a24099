package query

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/prometheus/prometheus/promql"
)

// slotTracker bounds how many queries are evaluated at once, by concurrency slots.
// A query releases its slot while it waits for stores, so that stores that do not
// answer cannot keep other queries from being evaluated. It implements
// promql.QueryTracker.
type slotTracker struct {
	slots chan struct{}
	// file names the queries that ran when the process died; nil when there is
	// no such file.
	file promql.QueryTracker

	mtx   sync.Mutex
	taken map[int]*slot
	next  int
}

// queriesPerSlot bounds the queries that run or wait for stores, as a multiple
// of those that are evaluated.
const queriesPerSlot = 50

func newSlotTracker(path string, n int, logger *slog.Logger) (*slotTracker, error) {
	s := &slotTracker{slots: make(chan struct{}, n), taken: map[int]*slot{}}
	if path == "" {
		return s, nil
	}
	var err error
	s.file, err = promql.NewActiveQueryTracker(path, n*queriesPerSlot, logger)
	return s, err
}

// GetMaxConcurrent implements promql.QueryTracker.
func (s *slotTracker) GetMaxConcurrent() int { return cap(s.slots) }

// Insert implements promql.QueryTracker: it waits until the query may be
// evaluated. Its errors are those of a query that timed out or was cancelled.
func (s *slotTracker) Insert(ctx context.Context, query string) (int, error) {
	t := &slot{slots: s.slots}
	if s.file != nil {
		var err error
		if t.inFile, err = s.file.Insert(ctx, query); err != nil {
			return 0, queueError(ctx, err)
		}
	}
	if err := t.acquire(ctx); err != nil {
		if s.file != nil {
			s.file.Delete(t.inFile)
		}
		return 0, err
	}
	if a := accountOf(ctx); a != nil {
		a.mtx.Lock()
		a.slot = t
		a.mtx.Unlock()
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.next++
	s.taken[s.next] = t
	return s.next, nil
}

// Delete implements promql.QueryTracker.
func (s *slotTracker) Delete(i int) {
	s.mtx.Lock()
	t := s.taken[i]
	delete(s.taken, i)
	s.mtx.Unlock()
	t.release()
	if s.file != nil {
		s.file.Delete(t.inFile)
	}
}

// Close implements io.Closer.
func (s *slotTracker) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// slot is the concurrency slot of one query. It belongs to the goroutine that
// evaluates the query.
type slot struct {
	slots  chan struct{}
	inFile int
	held   bool
}

func (t *slot) acquire(ctx context.Context) error {
	if t.held {
		return nil
	}
	select {
	case t.slots <- struct{}{}:
		t.held = true
		return nil
	case <-ctx.Done():
		return queueError(ctx, ctx.Err())
	}
}

func (t *slot) release() {
	if t.held {
		t.held = false
		<-t.slots
	}
}

// queueError is the error of a query that timed out or was cancelled before it got
// a slot.
func queueError(ctx context.Context, err error) error {
	const doing = "waiting for other queries (--query.max-concurrent)"
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return promql.ErrQueryTimeout(doing)
	case ctx.Err() != nil:
		return promql.ErrQueryCanceled(doing)
	}
	return err
}

// await releases the slot of the query, waits until done is closed, and takes a
// slot again. The account may be nil.
func (a *account) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	var t *slot
	if a != nil {
		a.mtx.Lock()
		t = a.slot
		a.mtx.Unlock()
	}
	if t == nil || !t.held {
		<-done
		return nil
	}
	t.release()
	<-done
	return t.acquire(ctx)
}
