package query

// waiter is one request in a fairQueue.
type waiter struct {
	tenant string
	// granted is closed once the request has what it waited for, or has failed
	// with err.
	granted chan struct{}
	err     error
	seq     uint64

	// heavy is for slots, share and bytes are for memory.
	heavy bool
	share *share
	bytes int64
}

// fairQueue orders the requests that wait for one resource. The tenant that has the
// least of it comes first, among equal ones the tenant that was served longest
// ago, and within a tenant the request that came first. A request that cannot be
// served does not keep others from being served. Its owner's lock guards it.
type fairQueue struct {
	tenants map[string]*tenantQueue
	seq     uint64
	n       int
}

type tenantQueue struct {
	waiting []*waiter
	// served is when the tenant was served last, as a value of seq.
	served uint64
}

func (q *fairQueue) push(w *waiter) {
	if q.tenants == nil {
		q.tenants = map[string]*tenantQueue{}
	}
	t := q.tenants[w.tenant]
	if t == nil {
		t = &tenantQueue{}
		q.tenants[w.tenant] = t
	}
	q.seq++
	w.seq = q.seq
	t.waiting = append(t.waiting, w)
	q.n++
}

// remove reports whether w was still waiting.
func (q *fairQueue) remove(w *waiter) bool {
	t := q.tenants[w.tenant]
	if t == nil {
		return false
	}
	for i, other := range t.waiting {
		if other == w {
			q.take(t, w.tenant, i)
			return true
		}
	}
	return false
}

// newestOfMost returns the request that came last of the tenant that has the most in the
// queue, which is not empty; among equal ones the given tenant. Where the queue is full,
// that request does not fit: one tenant cannot fill the queue for others.
func (q *fairQueue) newestOfMost(tenant string) *waiter {
	most := q.tenants[tenant]
	for _, t := range q.tenants {
		if most == nil || len(t.waiting) > len(most.waiting) {
			most = t
		}
	}
	return most.waiting[len(most.waiting)-1]
}

// next removes and returns the request that is next among those that ok accepts,
// or nil. load is how much of the resource a tenant has.
func (q *fairQueue) next(load func(tenant string) int64, ok func(*waiter) bool) *waiter {
	var best *tenantQueue
	var bestName string
	var bestLoad int64
	at := 0
	for name, t := range q.tenants {
		l := load(name)
		if best != nil && (l > bestLoad || l == bestLoad && !t.before(best)) {
			continue
		}
		for i, w := range t.waiting {
			if ok(w) {
				best, bestName, bestLoad, at = t, name, l, i
				break
			}
		}
	}
	if best == nil {
		return nil
	}
	w := best.waiting[at]
	q.seq++
	best.served = q.seq
	q.take(best, bestName, at)
	return w
}

// before orders two tenants of equal load.
func (t *tenantQueue) before(o *tenantQueue) bool {
	if t.served != o.served {
		return t.served < o.served
	}
	return t.waiting[0].seq < o.waiting[0].seq
}

func (q *fairQueue) take(t *tenantQueue, name string, i int) {
	t.waiting = append(t.waiting[:i], t.waiting[i+1:]...)
	q.n--
	if len(t.waiting) == 0 {
		delete(q.tenants, name)
	}
}
