package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/promql"
)

// slotTracker bounds how many queries are evaluated at once, by concurrency slots.
// Tenants get them in turns. Queries that cost much get all cores but one together,
// so that the others are evaluated at once; a query that cost much the last time waits for
// one of them before it asks the stores. A query releases its slot while it waits for
// stores, a heavy one after keepSlot, so that stores that do not answer cannot keep other
// queries from being evaluated. It implements promql.QueryTracker.
type slotTracker struct {
	most, mostHeavy, mostWaiting int
	// ofTenant returns how many slots a tenant may have; 0 means all.
	ofTenant func(tenant string) int
	// file names the queries that ran when the process died; nil when there is
	// no such file.
	file promql.QueryTracker

	mtx sync.Mutex
	// held and heavy count the slots in use, and byTenant those of each tenant.
	held, heavy int
	byTenant    map[string]int64
	queue       fairQueue
	taken       map[int]*slot
	next        int
}

// queriesPerSlot bounds the queries that run or wait for stores, and those that
// wait for a slot, as a multiple of those that are evaluated.
const queriesPerSlot = 50

// newSlotTracker returns a tracker of n slots. path is the directory of the file
// with the running queries, empty for none; the error is that of this file. reg may
// be nil.
func newSlotTracker(path string, n int, logger *slog.Logger, reg prometheus.Registerer) (*slotTracker, error) {
	s := &slotTracker{
		most: n, mostHeavy: min(n, max(1, runtime.GOMAXPROCS(0)-1)), mostWaiting: n * queriesPerSlot,
		ofTenant: func(string) int { return 0 }, byTenant: map[string]int64{}, taken: map[int]*slot{},
	}
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "hindsight_query_slots", Help: "Concurrency slots of queries (--query.max-concurrent).",
	}).Set(float64(n))
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_query_slots_taken", Help: "Concurrency slots that queries hold.",
	}, func() float64 {
		s.mtx.Lock()
		defer s.mtx.Unlock()
		return float64(len(s.taken))
	})
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_query_slots_waiting",
		Help: "Queries that wait for a concurrency slot.",
	}, func() float64 {
		s.mtx.Lock()
		defer s.mtx.Unlock()
		return float64(s.queue.n)
	})
	if path == "" {
		return s, nil
	}
	var err error
	s.file, err = promql.NewActiveQueryTracker(path, n*queriesPerSlot, logger)
	return s, err
}

// GetMaxConcurrent implements promql.QueryTracker.
func (s *slotTracker) GetMaxConcurrent() int { return s.most }

// Insert implements promql.QueryTracker: it waits until the query may be
// evaluated. Its errors are those of a query that timed out or was cancelled.
func (s *slotTracker) Insert(ctx context.Context, query string) (int, error) {
	a := accountOf(ctx)
	if a != nil && a.about.expression != "" {
		query = a.about.expression // without what stands for parts that others evaluate
	}
	t := &slot{tracker: s, account: a}
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
	if a != nil {
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

// crowded reports whether more queries than one run or wait.
func (s *slotTracker) crowded() bool {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return len(s.taken)+s.queue.n > 1
}

// get waits for a slot of the tenant. block is called before it waits, and unblock
// after.
func (s *slotTracker) get(ctx context.Context, tenant string, heavy bool, a *account) error {
	w := &waiter{tenant: tenant, heavy: heavy, granted: make(chan struct{})}
	s.mtx.Lock()
	s.queue.push(w)
	s.grant()
	select {
	case <-w.granted:
		s.mtx.Unlock()
		return nil
	default:
	}
	if s.queue.n > s.mostWaiting {
		s.refuse(s.queue.newestOfMost(tenant))
	}
	s.mtx.Unlock()
	defer a.block(stageQueued)()
	select {
	case <-w.granted:
		if w.err != nil {
			a.reject(limitQueue)
		}
		return w.err
	case <-ctx.Done():
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if !s.queue.remove(w) && w.err == nil {
		s.drop(tenant, heavy)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		a.reject(limitQueue)
	}
	return queueError(ctx, ctx.Err())
}

// refuse ends the wait of a request that does not fit in the queue. It needs the lock.
func (s *slotTracker) refuse(w *waiter) {
	s.queue.remove(w)
	w.err = fmt.Errorf("%w: %d queries wait for one of %d slots (--query.max-concurrent); try again later", errBusy, s.mostWaiting, s.most)
	close(w.granted)
}

// grant gives the free slots to the next in the queue. It needs the lock.
func (s *slotTracker) grant() {
	for s.held < s.most {
		w := s.queue.next(func(tenant string) int64 { return s.byTenant[tenant] }, s.may)
		if w == nil {
			return
		}
		s.held++
		s.heavy += int(btoi(w.heavy))
		s.byTenant[w.tenant]++
		close(w.granted)
	}
}

// may reports whether the limits of w allow it a free slot. It needs the lock.
func (s *slotTracker) may(w *waiter) bool {
	if w.heavy && s.heavy >= s.mostHeavy {
		return false
	}
	most := s.ofTenant(w.tenant)
	return most <= 0 || s.byTenant[w.tenant] < int64(most)
}

// drop needs the lock.
func (s *slotTracker) drop(tenant string, heavy bool) {
	s.held--
	s.heavy -= int(btoi(heavy))
	if s.byTenant[tenant]--; s.byTenant[tenant] == 0 {
		delete(s.byTenant, tenant)
	}
	s.grant()
}

// slot is the concurrency slot of one query. It may be used concurrently.
type slot struct {
	tracker *slotTracker
	account *account
	inFile  int

	mtx         sync.Mutex
	held, heavy bool
	// idle counts the goroutines of the query that wait for stores.
	idle int
	// later releases the slot of a heavy query that waits for long; nil when none waits.
	later *time.Timer
}

// keepSlot is how long a heavy query keeps its slot while it waits for stores. If all
// released it at once, all would read at the same time, and each would hold what the
// stores send.
const keepSlot = time.Second

// acquire takes a slot for what the query costs by now. A query that has one and has
// become heavy exchanges it.
func (t *slot) acquire(ctx context.Context) error {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	heavy := t.account.heavy()
	if t.held && t.heavy == heavy {
		return nil
	}
	t.drop()
	if err := t.tracker.get(ctx, t.account.tenantName(), heavy, t.account); err != nil {
		return err
	}
	t.held, t.heavy = true, heavy
	return nil
}

func (t *slot) release() {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	t.drop()
}

// drop needs the lock.
func (t *slot) drop() {
	if !t.held {
		return
	}
	t.held = false
	t.tracker.mtx.Lock()
	defer t.tracker.mtx.Unlock()
	t.tracker.drop(t.account.tenantName(), t.heavy)
}

func (t *slot) has() bool {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	return t.held
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
	default:
		return a.idle(ctx, func() { <-done })
	}
	if t := a.slotOf(); t != nil && t.has() {
		return t.acquire(ctx)
	}
	return nil
}

// idle releases the slot of the query, calls wait, and takes a slot again. Where
// several goroutines evaluate the query, the slot is released as soon as one of them
// waits, and taken again when the first of them goes on. The account may be nil.
func (a *account) idle(ctx context.Context, wait func()) error {
	t := a.slotOf()
	first, running := t.pause()
	if first {
		defer a.enter(stageReading)()
	}
	wait()
	if !running {
		return nil
	}
	t.resume()
	return t.acquire(ctx)
}

// pause releases the slot for a goroutine that waits, the first of them or not; that of a
// heavy query only after keepSlot. It reports whether the query is evaluated at all. The
// slot may be nil.
func (t *slot) pause() (first, running bool) {
	if t == nil {
		return false, false
	}
	t.mtx.Lock()
	defer t.mtx.Unlock()
	if !t.held && t.idle == 0 {
		return false, false
	}
	t.idle++
	switch {
	case !t.held || !t.heavy:
		t.drop()
	case t.later == nil:
		t.later = time.AfterFunc(keepSlot, t.dropIdle)
	}
	return t.idle == 1, true
}

// resume ends the wait of one goroutine.
func (t *slot) resume() {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	t.idle--
	if t.later != nil {
		t.later.Stop()
		t.later = nil
	}
}

// dropIdle releases the slot of a query that still waits.
func (t *slot) dropIdle() {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	if t.later != nil {
		t.later = nil
		t.drop()
	}
}

// pace is called between series by code that evaluates for long. It returns the
// error of a query that has to end, and lets a query that turns out to cost much
// wait for others of its kind. The account may be nil.
func (a *account) pace(ctx context.Context) error {
	if ctx.Err() != nil {
		return ended(ctx, ctx.Err())
	}
	if !a.heavy() {
		return nil
	}
	if t := a.slotOf(); t != nil && t.has() {
		return t.acquire(ctx)
	}
	return nil
}

func (a *account) slotOf() *slot {
	if a == nil {
		return nil
	}
	a.mtx.Lock()
	defer a.mtx.Unlock()
	return a.slot
}
