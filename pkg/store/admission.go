package store

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const (
	// largeBytes is the size above which a request is large, by the estimate of what it
	// reads that follows from its postings: about 20 ms of a core.
	largeBytes = 4 << 20
	// unreadPlace is how long the client of a large request may leave the answer unread
	// before the place of the request goes to another. Two gateways each of which has
	// admitted the request that the other one keeps waiting would else wait for ever.
	unreadPlace = time.Second
	// leastUnread bounds how much earlier a place goes on while others are not read: a
	// client that opens many requests and reads none of them does not keep others waiting
	// for a second each.
	leastUnread = unreadPlace / 10
	// admissionCheck is how often a waiting request looks for unread places.
	admissionCheck = unreadPlace / 4
	// maxWaiting bounds the requests that wait.
	maxWaiting = 500
	// maxTogether bounds the calls of one query that have one place together.
	maxTogether = 64
	// maxServed bounds the tenants that are remembered: clients choose their names.
	maxServed = 10_000
)

// admission bounds how many large requests read blocks at one time; others wait, and
// hold no data of blocks meanwhile. The tenant with the fewest places comes first, among
// equal ones the one that got its last place longest ago, and within a tenant the request
// that came first. The calls of one query have one place together, because a querier may
// read one of them only when it has read the other. It may be used concurrently.
type admission struct {
	// most is the number of places, and large the number of bytes above which a request
	// needs one.
	most  int
	large int64
	// wait is how long a request waits at most.
	wait time.Duration
	// turns are how many batches of large requests are read at one time.
	turns chan struct{}
	// refused counts requests that had to wait for too long, or that found too many
	// others waiting.
	refused atomic.Int64

	mtx sync.Mutex
	// open are the places of all requests by query; several may have the key "".
	open map[string]*place
	// taken are admitted places, waiting those that are not, in the order of arrival.
	taken   map[*place]struct{}
	waiting []*place
	// served is when a tenant got its last place, counted in places.
	served map[string]uint64
	count  uint64
}

func newAdmission(most int, wait time.Duration) *admission {
	return &admission{
		most: most, large: largeBytes, wait: wait, open: map[string]*place{}, taken: map[*place]struct{}{}, served: map[string]uint64{},
		turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)),
	}
}

// placeState is what a place is.
type placeState uint8

const (
	placeSmall placeState = iota // needs no admission so far
	placeWaiting
	placeTaken
	placeRefused
)

// place is the part of one query in an admission. The fields from calls to
// checked are guarded by the admission.
type place struct {
	a           *admission
	key, tenant string
	// admitted is closed when the place is taken or refused.
	admitted chan struct{}

	calls int
	state placeState
	bytes int64     // expected by the postings that were read so far
	since time.Time // of the wait
	// checked says that a goroutine looks for unread places.
	checked bool
	// read is when the client last read, in nanoseconds of the clock.
	read atomic.Int64
}

// join returns the place of a call. Calls of one tenant with the same query, which is not
// empty, have one together. leave ends it.
func (a *admission) join(tenant, query string) *place {
	key := ""
	if query != "" {
		key = tenant + "/" + query
	}
	a.mtx.Lock()
	defer a.mtx.Unlock()
	if p := a.open[key]; key != "" && p != nil && p.calls < maxTogether && p.state != placeRefused {
		p.calls++
		return p
	}
	p := &place{a: a, key: key, tenant: tenant, admitted: make(chan struct{}), calls: 1}
	if key != "" {
		a.open[key] = p
	}
	return p
}

// leave ends a call.
func (p *place) leave() {
	a := p.a
	a.mtx.Lock()
	defer a.mtx.Unlock()
	if p.calls--; p.calls > 0 {
		return
	}
	if a.open[p.key] == p {
		delete(a.open, p.key)
	}
	switch p.state {
	case placeWaiting:
		a.unqueue(p)
	case placeTaken:
		delete(a.taken, p)
	case placeSmall, placeRefused:
	}
	a.grant(time.Now())
	if len(a.waiting)+len(a.taken) == 0 || len(a.served) > maxServed {
		clear(a.served)
	}
}

// Expect implements bucketblock.Admission.
func (p *place) Expect(bytes int64) bool {
	a := p.a
	a.mtx.Lock()
	defer a.mtx.Unlock()
	p.bytes += bytes
	if p.state != placeSmall {
		return p.state == placeTaken
	}
	if p.bytes <= a.large {
		return true
	}
	now := time.Now()
	p.state, p.since = placeWaiting, now
	a.waiting = append(a.waiting, p)
	a.grant(now)
	if len(a.waiting) > maxWaiting {
		last := a.newestOfMost(p.tenant)
		a.unqueue(last)
		last.refuse()
	}
	return p.state == placeTaken
}

// newestOfMost returns the place that came last of the tenant that waits for most places;
// among equal ones the given tenant. It does not fit where too many wait: one tenant cannot
// keep others from waiting. It needs the lock.
func (a *admission) newestOfMost(tenant string) *place {
	waits := map[string]int{}
	for _, p := range a.waiting {
		waits[p.tenant]++
	}
	for other, n := range waits {
		if n > waits[tenant] {
			tenant = other
		}
	}
	for _, p := range slices.Backward(a.waiting) {
		if p.tenant == tenant {
			return p
		}
	}
	return nil // a tenant that waits for most places waits for one
}

// Wait implements bucketblock.Admission.
func (p *place) Wait(ctx context.Context) error {
	a := p.a
	every := admissionCheck
	if !p.first() {
		every = max(every, a.wait/4) // the first one may end before the others
	}
	check := time.NewTicker(every)
	defer check.Stop()
	for {
		select {
		case <-p.admitted:
			return p.refusal()
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-check.C:
			a.mtx.Lock()
			a.grant(now)
			if p.state == placeWaiting && now.Sub(p.since) >= a.wait {
				a.unqueue(p)
				p.refuse()
			}
			a.mtx.Unlock()
		}
	}
}

// first reports whether the caller is the first that waits for the place: a request has
// a goroutine for each block.
func (p *place) first() bool {
	p.a.mtx.Lock()
	defer p.a.mtx.Unlock()
	first := !p.checked
	p.checked = true
	return first
}

// refuse needs the lock.
func (p *place) refuse() {
	p.state = placeRefused
	p.a.refused.Add(1)
	close(p.admitted)
}

// Turn implements bucketblock.Admission. Small requests need no turn.
func (p *place) Turn(ctx context.Context) (done func(), err error) {
	if !p.taken() {
		return func() {}, nil
	}
	select {
	case p.a.turns <- struct{}{}:
		return func() { <-p.a.turns }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *place) taken() bool {
	p.a.mtx.Lock()
	defer p.a.mtx.Unlock()
	return p.state == placeTaken
}

// refusal is the error of a place that was refused.
func (p *place) refusal() error {
	a := p.a
	a.mtx.Lock()
	defer a.mtx.Unlock()
	if p.state != placeRefused {
		return nil
	}
	return fmt.Errorf("%w: the gateway reads %d large requests at a time (--store.large-requests) and %d wait, up to %s (--store.large-request-wait); try again later",
		storeapi.ErrUnavailable, a.most, len(a.waiting), a.wait)
}

// queued reports whether the request waits.
func (p *place) queued() bool {
	p.a.mtx.Lock()
	defer p.a.mtx.Unlock()
	return p.state == placeWaiting
}

// readAgain records that the client reads.
func (p *place) readAgain(now time.Time) { p.read.Store(now.UnixNano()) }

// grant gives places to those that wait. A place whose client does not read is given
// once more. It needs the lock.
func (a *admission) grant(now time.Time) {
	if len(a.waiting) == 0 {
		return
	}
	byTenant := map[string]int{}
	for p := range a.taken {
		byTenant[p.tenant]++
	}
	patience := max(leastUnread, unreadPlace/time.Duration(1+a.unread(now, unreadPlace)))
	active := len(a.taken) - a.unread(now, patience)
	for active < a.most && len(a.waiting) > 0 {
		next := a.waiting[0]
		for _, p := range a.waiting[1:] {
			d := byTenant[p.tenant] - byTenant[next.tenant]
			if d < 0 || d == 0 && a.served[p.tenant] < a.served[next.tenant] {
				next = p
			}
		}
		a.unqueue(next)
		a.count++
		a.served[next.tenant] = a.count
		next.state = placeTaken
		next.readAgain(now)
		a.taken[next] = struct{}{}
		close(next.admitted)
		active++
		byTenant[next.tenant]++
	}
}

// unread is the number of admitted places whose client has not read for the time. It
// needs the lock.
func (a *admission) unread(now time.Time, patience time.Duration) (n int) {
	for p := range a.taken {
		if now.Sub(time.Unix(0, p.read.Load())) >= patience {
			n++
		}
	}
	return n
}

// unqueue needs the lock.
func (a *admission) unqueue(p *place) {
	for i, o := range a.waiting {
		if o == p {
			a.waiting = append(a.waiting[:i], a.waiting[i+1:]...)
			break
		}
	}
}

// counts are how many requests are admitted, and how many wait.
func (a *admission) counts() (taken, waiting int) {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	return len(a.taken), len(a.waiting)
}
