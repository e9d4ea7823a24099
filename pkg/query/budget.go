package query

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// errBusy is the error of a request that needs memory which other requests hold:
// it can succeed later.
var errBusy = errors.New("memory of the process is in use by other requests")

// memoryBudget is the memory that all requests of a querier may hold together: what
// they read from stores, what the engine allocates for it, and their results.
// It may be used concurrently.
type memoryBudget struct {
	limit int64 // 0 means no limit

	mtx sync.Mutex
	// used is the sum of the memory of all accounts; peak is its maximum since
	// memory was last returned to the system.
	used, peak int64
	// holders are the accounts that hold memory; waiting, those of them that
	// wait for more. As long as one holder does not wait, memory will be freed.
	holders, waiting int
	// freed is closed, and replaced, whenever memory was returned.
	freed chan struct{}
	// begun counts accounts.
	begun uint64
	open  int

	rejected *prometheus.CounterVec
}

// newMemoryBudget returns a budget of size bytes; 0 means no limit. reg may be nil.
func newMemoryBudget(size int64, reg prometheus.Registerer) *memoryBudget {
	b := &memoryBudget{limit: size, freed: make(chan struct{})}
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_query_memory_limit_bytes",
		Help: "Memory that all requests may hold together; 0 means no limit.",
	}, func() float64 { return float64(size) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_query_memory_used_bytes",
		Help: "Estimated memory that requests hold.",
	}, func() float64 {
		b.mtx.Lock()
		defer b.mtx.Unlock()
		return float64(b.used)
	})
	b.rejected = f.NewCounterVec(prometheus.CounterOpts{
		Name: "hindsight_query_limit_rejections_total",
		Help: "Requests that failed because of a limit, by limit.",
	}, []string{"limit"})
	for _, l := range []string{limitMemory, limitBusy, limitSamples, limitSeries, limitChunks, limitBytes} {
		b.rejected.WithLabelValues(l)
	}
	return b
}

// The limits of one request, as the label of the metric says.
const (
	limitMemory  = "memory"
	limitBusy    = "memory_busy"
	limitSamples = "samples"
	limitSeries  = "fetched_series"
	limitChunks  = "fetched_chunks"
	limitBytes   = "fetched_bytes"
)

// share is the memory that one request holds of a budget.
type share struct {
	budget *memoryBudget
	// held and waiting are guarded by the budget's mutex.
	held    int64
	waiting int
	closed  bool
}

func (b *memoryBudget) share() *share {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.begun++
	b.open++
	return &share{budget: b}
}

// take adds n bytes to the share. Where others hold too much it waits for them,
// unless all of them wait as well; the error is errBusy then, and limit.ErrExceeded where
// the whole budget is too small.
func (s *share) take(ctx context.Context, n int64) error {
	b := s.budget
	if b.limit == 0 {
		return nil
	}
	b.mtx.Lock()
	defer b.mtx.Unlock()
	for {
		switch {
		case s.closed:
			return errors.New("request has ended")
		case s.held+n > b.limit:
			b.rejected.WithLabelValues(limitMemory).Inc()
			return fmt.Errorf("%w: the request needs more memory than the %d bytes that all requests may hold together (--query.max-memory); choose fewer series, a shorter range or a larger step", limit.ErrExceeded, b.limit)
		case b.used+n <= b.limit:
			if s.held == 0 && n > 0 {
				b.holders++
				if s.waiting > 0 {
					b.waiting++
				}
			}
			s.held += n
			b.used += n
			b.peak = max(b.peak, b.used)
			return nil
		case !s.mayWait():
			b.rejected.WithLabelValues(limitBusy).Inc()
			return s.busy()
		}
		err := s.await(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			b.rejected.WithLabelValues(limitBusy).Inc()
			return s.busy()
		case err != nil:
			return err
		}
	}
}

func (s *share) busy() error {
	b := s.budget
	return fmt.Errorf("%w: they hold %d of %d bytes (--query.max-memory); try again later", errBusy, b.used-s.held, b.limit)
}

// mayWait reports whether a request that holds memory goes on while this one waits.
func (s *share) mayWait() bool {
	others := s.budget.holders - s.budget.waiting
	if s.held > 0 && s.waiting == 0 {
		others--
	}
	return others > 0
}

// await waits, without the lock, until memory is freed.
func (s *share) await(ctx context.Context) error {
	b := s.budget
	s.waiting++
	if s.waiting == 1 && s.held > 0 {
		b.waiting++
	}
	freed := b.freed
	b.mtx.Unlock()
	var err error
	select {
	case <-freed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	b.mtx.Lock()
	s.waiting--
	if s.waiting == 0 && s.held > 0 {
		b.waiting--
	}
	return err
}

// give returns n bytes of what the share holds.
func (s *share) give(n int64) {
	b := s.budget
	b.mtx.Lock()
	defer b.mtx.Unlock()
	n = min(n, s.held)
	if n <= 0 {
		return
	}
	s.held -= n
	b.used -= n
	if s.held == 0 {
		b.holders--
		if s.waiting > 0 {
			b.waiting--
		}
	}
	b.wake()
}

// wake lets the waiting requests look again. It needs the lock.
func (b *memoryBudget) wake() {
	close(b.freed)
	b.freed = make(chan struct{})
}

// close returns everything. It may be called again.
func (s *share) close() {
	b := s.budget
	b.mtx.Lock()
	defer b.mtx.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	b.open--
	if s.held > 0 {
		b.holders--
		if s.waiting > 0 {
			b.waiting--
		}
		b.used -= s.held
		s.held = 0
		b.wake()
	}
}
