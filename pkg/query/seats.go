package query

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/prometheus/prometheus/promql"
)

// seats bounds how many queries are evaluated at once. A query gives its seat
// back while it waits for stores, so that stores that do not answer cannot keep
// other queries from being evaluated. It implements promql.QueryTracker.
type seats struct {
	slots chan struct{}
	// file names the queries that ran when the process died; nil when there is
	// none.
	file promql.QueryTracker

	mtx   sync.Mutex
	taken map[int]*seat
	next  int
}

// queriesPerSlot bounds the queries that run or wait for stores, as a multiple
// of those that are evaluated.
const queriesPerSlot = 50

func newSeats(path string, n int, logger *slog.Logger) (*seats, error) {
	s := &seats{slots: make(chan struct{}, n), taken: map[int]*seat{}}
	if path == "" {
		return s, nil
	}
	var err error
	s.file, err = promql.NewActiveQueryTracker(path, n*queriesPerSlot, logger)
	return s, err
}

// GetMaxConcurrent implements promql.QueryTracker.
func (s *seats) GetMaxConcurrent() int { return cap(s.slots) }

// Insert implements promql.QueryTracker: it waits until the query may be
// evaluated. Its errors are those of a query that timed out or was cancelled.
func (s *seats) Insert(ctx context.Context, query string) (int, error) {
	t := &seat{slots: s.slots}
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
		a.seat = t
		a.mtx.Unlock()
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.next++
	s.taken[s.next] = t
	return s.next, nil
}

// Delete implements promql.QueryTracker.
func (s *seats) Delete(i int) {
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
func (s *seats) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// seat is the place of one query. It belongs to the goroutine that evaluates it.
type seat struct {
	slots  chan struct{}
	inFile int
	held   bool
}

func (t *seat) acquire(ctx context.Context) error {
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

func (t *seat) release() {
	if t.held {
		t.held = false
		<-t.slots
	}
}

// queueError is the error of a query whose time ended before its turn came.
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

// await waits until done is closed, without a seat. The account may be nil.
func (a *account) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	var t *seat
	if a != nil {
		a.mtx.Lock()
		t = a.seat
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
