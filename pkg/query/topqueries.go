package query

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// mostTopQueries and mostTopBytes bound what topQueries remembers: queries, and the bytes
// of their expressions and tenants.
const (
	mostTopQueries = 1000
	mostTopBytes   = 1 << 20
)

// topQueries sums the costs of the requests that ended since the process started, by
// tenant, kind and expression. When it is full it forgets the query with the least time
// of the tenant with the most queries, so the many expressions of one tenant do not
// displace those of another one. It may be used concurrently.
type topQueries struct {
	since time.Time

	mtx      sync.Mutex
	known    map[topKey]*promapi.TopQuery
	ofTenant map[string]int
	bytes    int
	dropped  bool
}

type topKey struct{ tenant, kind, expression string }

func (k topKey) size() int { return len(k.tenant) + len(k.expression) }

func newTopQueries(now time.Time) *topQueries {
	return &topQueries{since: now, known: map[topKey]*promapi.TopQuery{}, ofTenant: map[string]int{}}
}

// note adds a request that took d. interrupted says that it did not reach its end.
func (t *topQueries) note(a *account, d time.Duration, interrupted bool) {
	key := topKey{tenant: a.share.tenant, kind: a.about.kind, expression: a.about.expression}
	a.mtx.Lock()
	series, samples, bytes := a.series, a.samples, a.bytes
	a.mtx.Unlock()
	t.mtx.Lock()
	defer t.mtx.Unlock()
	q := t.known[key]
	if q == nil {
		q = t.admit(key)
	}
	q.Count++
	if interrupted {
		q.Interrupted++
	}
	q.TotalSeconds += d.Seconds()
	q.MaxSeconds = max(q.MaxSeconds, d.Seconds())
	q.Series += series
	q.Samples += samples
	q.Bytes += bytes
	q.Cost += a.work.Load()
	q.Last = time.Now().UTC()
}

// admit makes place for a query and returns its sums.
func (t *topQueries) admit(key topKey) *promapi.TopQuery {
	for len(t.known) > 0 && (len(t.known) >= mostTopQueries || t.bytes+key.size() > mostTopBytes) {
		t.forget()
	}
	q := &promapi.TopQuery{Tenant: key.tenant, Kind: key.kind, Query: key.expression}
	t.known[key] = q
	t.ofTenant[key.tenant]++
	t.bytes += key.size()
	return q
}

func (t *topQueries) forget() {
	var least topKey
	var found *promapi.TopQuery
	for key, q := range t.known {
		if found == nil || cmp.Or(cmp.Compare(t.ofTenant[least.tenant], t.ofTenant[key.tenant]), cmp.Compare(q.TotalSeconds, found.TotalSeconds)) < 0 {
			least, found = key, q
		}
	}
	delete(t.known, least)
	t.bytes -= least.size()
	if t.ofTenant[least.tenant]--; t.ofTenant[least.tenant] == 0 {
		delete(t.ofTenant, least.tenant)
	}
	t.dropped = true
}

// list returns at most limit queries that the tenant of ctx may see, the most expensive
// ones by order first.
func (t *topQueries) list(ctx context.Context, order promapi.TopOrder, limit int) promapi.TopQueries {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	out := promapi.TopQueries{Since: t.since.UTC(), Complete: !t.dropped, Queries: []promapi.TopQuery{}}
	for _, q := range t.known {
		if seesAll(ctx, tenant.Split(q.Tenant)) {
			out.Queries = append(out.Queries, *q)
		}
	}
	slices.SortFunc(out.Queries, func(a, b promapi.TopQuery) int {
		var first int
		switch order {
		case promapi.TopByTime:
			first = cmp.Compare(b.TotalSeconds, a.TotalSeconds)
		case promapi.TopByCost:
			first = cmp.Compare(b.Cost, a.Cost)
		case promapi.TopByCount:
			first = cmp.Compare(b.Count, a.Count)
		}
		return cmp.Or(first, cmp.Compare(a.Query, b.Query), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Kind, b.Kind))
	})
	out.Queries = out.Queries[:min(limit, len(out.Queries))]
	return out
}
