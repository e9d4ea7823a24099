package query

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// errBusy is the error of a request that needs what other requests hold: it can
// succeed later.
var errBusy = errorid.Sentinel(errorid.QueryBusy, "the querier is busy with other requests")

// memoryBudget is the memory that all requests of a querier may hold together: what
// they read from stores, what the engine allocates for it, and their results.
// It may be used concurrently.
//
// A request that holds little is small; all others are large. Large requests run
// side by side only while the memory that they are expected to need fits, and they
// leave an eighth of the limit to small ones. So many large requests wait for each
// other, and small ones pass them.
type memoryBudget struct {
	limit int64 // 0 means no limit
	// small is how much a small request may hold.
	small int64
	// ofTenant returns how much the requests of a tenant may hold together; 0
	// means no limit of its own.
	ofTenant func(tenant string) int64

	mtx sync.Mutex
	// used is the sum of the memory of all shares, and byTenant its parts; peak
	// is its maximum since memory was last returned to the system.
	used, peak int64
	byTenant   map[string]int64
	open       map[*share]struct{}
	// large are the large requests, in the order in which they became so.
	large []*share
	// expected is how much a large request needs, by those that have ended.
	expected int64
	queue    fairQueue
	// begun counts shares.
	begun uint64

	rejected *prometheus.CounterVec
}

// Parts of the budget.
const (
	// smallPart and smallMost bound small: a hundred small requests that wait
	// leave most of the budget to those that run.
	smallPart = 256
	smallMost = 4 << 20
	// sparePart of the limit is left to small requests.
	sparePart = 8
)

// newMemoryBudget returns a budget of size bytes; 0 means no limit. reg may be nil.
func newMemoryBudget(size int64, reg prometheus.Registerer) *memoryBudget {
	b := &memoryBudget{
		limit: size, small: min(size/smallPart, smallMost), expected: size / sparePart,
		byTenant: map[string]int64{}, open: map[*share]struct{}{},
		ofTenant: func(string) int64 { return 0 },
	}
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
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_query_memory_waiting",
		Help: "Requests that wait for memory which other requests hold.",
	}, func() float64 {
		b.mtx.Lock()
		defer b.mtx.Unlock()
		return float64(b.queue.n)
	})
	b.rejected = f.NewCounterVec(prometheus.CounterOpts{
		Name: "hindsight_query_limit_rejections_total",
		Help: "Requests that failed because of a limit, by limit.",
	}, []string{"limit"})
	for _, l := range []string{limitMemory, limitBusy, limitQueue, limitSamples, limitSeries, limitChunks, limitBytes, limitPoints, limitList} {
		b.rejected.WithLabelValues(l)
	}
	return b
}

// The limits of one request, as the label of the metric says.
const (
	limitMemory  = "memory"
	limitBusy    = "memory_busy"
	limitQueue   = "concurrency_busy"
	limitSamples = "samples"
	limitSeries  = "fetched_series"
	limitChunks  = "fetched_chunks"
	limitBytes   = "fetched_bytes"
	limitPoints  = "result_points"
	limitList    = "list_entries"
)

// share is the memory that one request holds of a budget. Everything but the budget
// and the tenant is guarded by the budget's mutex.
type share struct {
	budget *memoryBudget
	tenant string
	// fail ends the request with an error; may be nil.
	fail context.CancelCauseFunc
	seq  uint64

	held, peak int64
	// waited is how long the request waited for memory, summed over its goroutines.
	waited time.Duration
	large  bool
	// blocked counts what the request waits for: memory, or a concurrency slot.
	blocked int
	// failed says that the request was ended to make room for others.
	failed, closed bool
}

// status returns what the tenant of ctx may see of the budget.
func (b *memoryBudget) status(ctx context.Context) promapi.MemoryStatus {
	out := promapi.MemoryStatus{LimitBytes: b.limit, Tenants: map[string]int64{}}
	b.mtx.Lock()
	defer b.mtx.Unlock()
	for s := range b.open {
		if seesAll(ctx, tenant.Split(s.tenant)) {
			out.Requests++
		}
	}
	for id, n := range b.byTenant {
		if seesAll(ctx, tenant.Split(id)) {
			out.Tenants[id] = n
			out.UsedBytes += n
		}
	}
	if !tenant.Only(ctx) {
		out.UsedBytes, out.Waiting = b.used, b.queue.n
	}
	return out
}

func (b *memoryBudget) share(tenant string, fail context.CancelCauseFunc) *share {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.begun++
	s := &share{budget: b, tenant: tenant, fail: fail, seq: b.begun}
	b.open[s] = struct{}{}
	return s
}

// take adds n bytes to the share. Where others hold too much it waits for them. The
// error is errBusy when the time of ctx ends meanwhile, or when all requests that
// hold memory wait and this one is the youngest; it is limit.ErrExceeded where
// the whole budget is too small.
func (s *share) take(ctx context.Context, n int64) error {
	b := s.budget
	if b.limit == 0 || n <= 0 {
		return nil
	}
	b.mtx.Lock()
	if err := s.refuse(n); err != nil {
		b.mtx.Unlock()
		return err
	}
	if b.fits(s, n) {
		s.hold(n)
		b.mtx.Unlock()
		return nil
	}
	w := &waiter{tenant: s.tenant, granted: make(chan struct{}), share: s, bytes: n}
	b.queue.push(w)
	s.blocked++
	b.settle()
	b.mtx.Unlock()
	begin := time.Now()
	select {
	case <-w.granted:
	case <-ctx.Done():
	}
	b.mtx.Lock()
	defer b.mtx.Unlock()
	s.waited += time.Since(begin)
	select {
	case <-w.granted:
		return w.err
	default:
	}
	if b.queue.remove(w) {
		s.blocked--
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	b.rejected.WithLabelValues(limitBusy).Inc()
	return s.busy()
}

// refuse returns the error of a request that must not have n bytes more. It needs
// the lock.
func (s *share) refuse(n int64) error {
	b := s.budget
	switch most := b.ofTenant(s.tenant); {
	case s.failed:
		return s.busy()
	case s.closed:
		return errors.New("request has ended")
	case s.held+n > b.limit:
		b.rejected.WithLabelValues(limitMemory).Inc()
		return &limit.Error{
			What: "bytes of memory", Flag: "--query.max-memory", Max: b.limit, Needed: s.held + n,
			Detail: "for all requests together; choose fewer series, a shorter range or a larger step",
		}
	case most > 0 && s.held+n > most:
		b.rejected.WithLabelValues(limitMemory).Inc()
		return &limit.Error{What: "bytes of memory", Flag: ofTenantFlag("max_memory", s.tenant), Max: most, Needed: s.held + n}
	}
	return nil
}

func (s *share) busy() error {
	return fmt.Errorf("%w: they hold %d of %d bytes of memory (--query.max-memory); try again later", errBusy, s.budget.used-s.held, s.budget.limit)
}

// fits reports whether s may have n bytes more now. It needs the lock.
func (b *memoryBudget) fits(s *share, n int64) bool {
	if most := b.ofTenant(s.tenant); most > 0 && b.byTenant[s.tenant]+n > most {
		return false
	}
	total := s.held + n
	switch {
	case total <= b.small:
	case !s.large && !b.admits(max(total, s.peak)):
		return false
	case len(b.large) > 0 && b.large[0] != s:
		return b.used+n <= b.limit-b.limit/sparePart
	}
	// The large request that came first may have everything: one at least ends.
	return b.used+n <= b.limit
}

// admits reports whether one more request may become large, with total bytes so
// far. It needs the lock.
func (b *memoryBudget) admits(total int64) bool {
	if len(b.large) == 0 {
		return true
	}
	need := max(total, b.expected)
	for _, l := range b.large {
		need += max(l.held, b.expected)
	}
	return need <= b.limit-b.limit/sparePart
}

// hold adds n bytes. It needs the lock.
func (s *share) hold(n int64) {
	b := s.budget
	s.held += n
	s.peak = max(s.peak, s.held)
	b.used += n
	b.byTenant[s.tenant] += n
	b.peak = max(b.peak, b.used)
	if s.held > b.small && !s.large {
		s.large = true
		b.large = append(b.large, s)
	}
}

// settle grants what fits. When every request that holds memory waits, it ends the
// youngest of them, so that the others go on. It needs the lock.
func (b *memoryBudget) settle() {
	for b.queue.n > 0 {
		w := b.queue.next(
			func(tenant string) int64 { return b.byTenant[tenant] },
			func(w *waiter) bool { return !w.share.closed && b.fits(w.share, w.bytes) })
		if w == nil {
			break
		}
		w.share.blocked--
		w.share.hold(w.bytes)
		close(w.granted)
	}
	if b.queue.n == 0 {
		return
	}
	if victim := b.victim(); victim != nil {
		b.end(victim)
	}
}

// victim returns the youngest of the requests that hold memory when all of them
// wait; else nil. Where a tenant has a limit of its own, its requests wait for each
// other only. It needs the lock.
func (b *memoryBudget) victim() *share {
	youngest := map[string]*share{}
	running := map[string]bool{}
	var all *share
	anyone := false
	for s := range b.open {
		switch {
		case s.held == 0:
		case s.blocked == 0 || s.failed:
			running[s.tenant], anyone = true, true
		default:
			if y := youngest[s.tenant]; y == nil || s.seq > y.seq {
				youngest[s.tenant] = s
			}
			if all == nil || s.seq > all.seq {
				all = s
			}
		}
	}
	if !anyone {
		return all
	}
	for tenant, t := range b.queue.tenants {
		if most := b.ofTenant(tenant); most > 0 && !running[tenant] && youngest[tenant] != nil && b.byTenant[tenant]+t.waiting[0].bytes > most {
			return youngest[tenant]
		}
	}
	return nil
}

// end fails a request. Its memory is free once it has ended. It needs the lock.
func (b *memoryBudget) end(s *share) {
	b.rejected.WithLabelValues(limitBusy).Inc()
	s.failed = true
	err := s.busy()
	if t := b.queue.tenants[s.tenant]; t != nil {
		for _, w := range append([]*waiter(nil), t.waiting...) {
			if w.share == s && b.queue.remove(w) {
				s.blocked--
				w.err = err
				close(w.granted)
			}
		}
	}
	if s.fail != nil {
		s.fail(err)
	}
}

// block says that the request waits for something that other requests hold.
func (s *share) block() {
	b := s.budget
	b.mtx.Lock()
	defer b.mtx.Unlock()
	s.blocked++
	b.settle()
}

func (s *share) unblock() {
	b := s.budget
	b.mtx.Lock()
	defer b.mtx.Unlock()
	s.blocked--
}

// give returns n bytes of what the share holds.
func (s *share) give(n int64) {
	b := s.budget
	b.mtx.Lock()
	defer b.mtx.Unlock()
	s.drop(min(n, s.held))
	b.settle()
}

// drop needs the lock.
func (s *share) drop(n int64) {
	if n <= 0 {
		return
	}
	b := s.budget
	s.held -= n
	b.used -= n
	if b.byTenant[s.tenant] -= n; b.byTenant[s.tenant] == 0 {
		delete(b.byTenant, s.tenant)
	}
}

// holding returns how much the share holds, and whether the request waits.
func (s *share) holding() (bytes int64, blocked bool) {
	s.budget.mtx.Lock()
	defer s.budget.mtx.Unlock()
	return s.held, s.blocked > 0
}

// most returns the most that the share has held, and how long it waited for memory.
func (s *share) most() (bytes int64, waited time.Duration) {
	s.budget.mtx.Lock()
	defer s.budget.mtx.Unlock()
	return s.peak, s.waited
}

// onFail sets what ends the request.
func (s *share) onFail(fail context.CancelCauseFunc) {
	s.budget.mtx.Lock()
	defer s.budget.mtx.Unlock()
	s.fail = fail
}

// wasEnded reports whether the request was ended to make room for others.
func (s *share) wasEnded() bool {
	s.budget.mtx.Lock()
	defer s.budget.mtx.Unlock()
	return s.failed
}

// restart returns everything, so that the request can begin anew. It gets more than
// little only when there is as much as it had.
func (s *share) restart() {
	b := s.budget
	b.mtx.Lock()
	defer b.mtx.Unlock()
	s.drop(s.held)
	if s.large {
		b.learn(s)
	}
	s.large, s.failed = false, false
	b.settle()
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
	delete(b.open, s)
	s.drop(s.held)
	if s.large {
		b.learn(s)
	}
	b.settle()
}

// learn removes a large request and adjusts what others are expected to need: up
// fast, down slowly. It needs the lock.
func (b *memoryBudget) learn(s *share) {
	for i, l := range b.large {
		if l == s {
			b.large = append(b.large[:i], b.large[i+1:]...)
			break
		}
	}
	const up, down = 2, 16
	if d := s.peak - b.expected; d > 0 {
		b.expected += d / up
	} else {
		b.expected += d / down
	}
}
