package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// errEnded is the error of a request that the API of running queries has ended. A
// client must not try it again.
var errEnded = errorid.Sentinel(errorid.QueryEnded, "the query was ended by a request to /api/v1/queries")

// stage is what a request does.
type stage uint8

const (
	stageReading stage = iota
	stageQueued
	stageEvaluating
	stageEncoding
	stages // their number
)

func (s stage) String() string {
	return [stages]string{"reading", "queued", "evaluating", "encoding"}[s]
}

// requestInfo says which request it is, for the list of running queries.
type requestInfo struct {
	kind, expression, remote, userAgent string
	// http says that the request came over HTTP, from a client that is no querier.
	http bool
	// requestID is the id by which the client finds the request.
	requestID string
	// times are the time range and the step.
	times string
}

// maxShownExpression bounds the expression of a running query in bytes, and
// maxShownAgent the name of its client.
const (
	maxShownExpression = 4 << 10
	maxShownAgent      = 256
)

// requestInfoOf describes an HTTP request whose form has been parsed.
func requestInfoOf(r *http.Request) requestInfo {
	text := r.Form.Get("query")
	if text == "" {
		text = strings.Join(r.Form["match[]"], ", ")
	}
	kind := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if kind == "values" {
		kind = "label_values"
	}
	return requestInfo{kind: kind, expression: text, remote: r.RemoteAddr, userAgent: r.UserAgent(), http: true, times: timeRange(r)}.bounded()
}

// callInfo describes a query over gRPC.
func callInfo(ctx context.Context, expression string) requestInfo {
	i := requestInfo{kind: "grpc_query", expression: expression}
	if p, ok := peer.FromContext(ctx); ok {
		i.remote = p.Addr.String()
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		i.userAgent = strings.Join(md.Get("user-agent"), " ")
	}
	return i.bounded()
}

func (i requestInfo) bounded() requestInfo {
	i.expression, i.userAgent = cut(i.expression, maxShownExpression), cut(i.userAgent, maxShownAgent)
	return i
}

// cut returns at most n bytes, in memory of their own.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "..."
	}
	return strings.ToValidUTF8(strings.Clone(s), "?")
}

// requests are those that run. It may be used concurrently.
type requests struct {
	budget *memoryBudget
	limits *tenantLimits
	top    *topQueries

	mtx   sync.Mutex
	open  map[string]*running
	ended prometheus.Counter
	slow  slowLog
}

// running is one request that runs.
type running struct {
	*account
	tenants []string
	started time.Time
}

// newRequests returns an empty list. reg may be nil.
func newRequests(budget *memoryBudget, limits *tenantLimits, reg prometheus.Registerer) *requests {
	r := &requests{budget: budget, limits: limits, top: newTopQueries(time.Now()), open: map[string]*running{}}
	f := promauto.With(reg)
	for s := range stages {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hindsight_query_running_requests", Help: "Requests that run, by stage.",
			ConstLabels: prometheus.Labels{"stage": s.String()},
		}, func() float64 { return float64(r.count(s)) })
	}
	r.ended = f.NewCounter(prometheus.CounterOpts{
		Name: "hindsight_query_ended_requests_total",
		Help: "Requests that were ended by DELETE /api/v1/queries.",
	})
	return r
}

// begin returns a context with an account for one request, and the function that
// ends it. A context that has an account already keeps it.
func (r *requests) begin(ctx context.Context, info requestInfo) (context.Context, func()) {
	if accountOf(ctx) != nil {
		return ctx, func() {}
	}
	id := tenant.FromContext(ctx)
	ctx, stop := context.WithCancelCause(ctx)
	a := &account{limits: r.limits.fetch(id), share: r.budget.share(id, stop), about: info, stop: stop, since: time.Now()}
	key, started := ulid.Make().String(), a.since
	r.mtx.Lock()
	r.open[key] = &running{account: a, tenants: tenant.Split(id), started: started}
	r.mtx.Unlock()
	// Stores admit the calls of one id together: each query of a client has its own, also
	// when the client sends the same id with all. Those of a querier have the id of its query.
	switch id := requestid.FromContext(ctx); {
	case id == "":
		a.about.requestID = key
		ctx = requestid.NewContext(ctx, key)
	case info.http:
		a.about.requestID = id
		ctx = requestid.NewContext(ctx, requestid.Part(id, key))
	default:
		a.about.requestID = id
	}
	return context.WithValue(ctx, accountKey{}, a), func() {
		r.mtx.Lock()
		delete(r.open, key)
		r.mtx.Unlock()
		took := time.Since(started)
		r.top.note(a, took, ctx.Err() != nil)
		r.slow.note(ctx, a, took)
		a.share.close()
		stop(nil)
	}
}

func (r *requests) count(s stage) int {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	n := 0
	for _, q := range r.open {
		if q.stageNow() == s {
			n++
		}
	}
	return n
}

// list returns the requests that the tenant of ctx may see, oldest first.
func (r *requests) list(ctx context.Context) []promapi.RunningQuery {
	now := time.Now()
	out := []promapi.RunningQuery{}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	for id, q := range r.open {
		if q.visible(ctx) {
			out = append(out, q.json(id, now))
		}
	}
	slices.SortFunc(out, func(a, b promapi.RunningQuery) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID)) })
	return out
}

// end ends a request that the tenant of ctx may see, and reports whether there is
// one. All that works for it in stores ends with it.
func (r *requests) end(ctx context.Context, id string) bool {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	q := r.open[id]
	if q == nil || !q.visible(ctx) {
		return false
	}
	q.stop(errEnded)
	r.ended.Inc()
	return true
}

// visible reports whether the tenant of ctx may see the request: all whose data it
// reads.
func (q *running) visible(ctx context.Context) bool { return seesAll(ctx, q.tenants) }

// seesAll reports whether the tenant of ctx may see the data of all of the tenants.
func seesAll(ctx context.Context, tenants []string) bool {
	return !slices.ContainsFunc(tenants, func(id string) bool { return !tenant.Includes(ctx, id) })
}

func (q *running) json(id string, now time.Time) promapi.RunningQuery {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	held, _ := q.share.holding()
	return promapi.RunningQuery{
		ID: id, Tenant: q.share.tenant, Query: q.about.expression, Kind: q.about.kind,
		Start: q.started.UTC(), AgeSeconds: now.Sub(q.started).Seconds(), Stage: q.stage.String(),
		Remote: q.about.remote, UserAgent: q.about.userAgent,
		Series: q.series, Samples: q.samples, Chunks: q.chunks, Bytes: q.bytes, MemoryBytes: held,
	}
}

func (a *account) stageNow() stage {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	return a.stage
}

// ownCause is the error for which the querier itself has ended the request of ctx;
// nil when it has not.
func ownCause(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errBusy) || errors.Is(cause, errEnded) {
		return cause
	}
	return nil
}

// ofTenantFlag names a limit in the file of limits.
func ofTenantFlag(key, id string) string {
	return fmt.Sprintf("%s of tenant %q in --query.limits-config", key, id)
}
