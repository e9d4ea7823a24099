package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/features"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/query/endpoint"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/statushttp"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/ui"
)

// Deps are the dependencies of a querier.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
	// LocalStores are asked beside the endpoints: the stores of the same
	// process.
	LocalStores []storeapi.Store
	// Only, if not nil, is the store that queries read, and no other one. It obeys
	// storeapi.Request.SortWithout and external labels by itself. Its failure is that of the
	// query, also where partial answers are accepted.
	Only storeapi.Store
	// Flags are shown by the API.
	Flags map[string]string
	// Pages are the paths of pages of other roles of the same process, at which UI is
	// served.
	Pages []string
}

// Query is the querier component.
type Query struct {
	// filter are the relabelling rules that choose stores.
	filter atomic.Pointer[[]*relabel.Config]
	cfg    Config
	deps   Deps
	set    *endpoint.Set
	fanout *fanout.Store
	engine *engine
	api    *promapi.API

	queryable *Queryable
	// defaults hold for options that a request does not have.
	defaults queryopts.Defaults
}

// New returns a querier. It connects to nothing before Run.
func New(cfg Config, deps Deps) (*Query, error) {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	set, err := cfg.Endpoints.set(cfg.Timeout.Duration(), cfg.ResponseTimeout.Duration(), deps.Logger, deps.Registerer)
	if err != nil {
		return nil, err
	}
	p := boundedParser{limits: cfg.Limits.expressions(), Parser: parser.NewParser(parser.Options{
		EnableExperimentalFunctions: slices.Contains(cfg.Features.Values(), experimentalFunctions),
	})}
	known := features.NewRegistry()
	engine, err := newEngine(&cfg, p, known, newMemoryBudget(cfg.Limits.memory(), deps.Registerer), deps)
	if err != nil {
		return nil, fmt.Errorf("start the PromQL engine: %w", err)
	}
	rules, err := cfg.selector()
	if err != nil {
		return nil, flags.Invalid(err)
	}
	q := &Query{cfg: cfg, deps: deps, set: set, engine: engine}
	q.filter.Store(&rules)
	q.fanout = fanout.New(q.stores, fanout.Config{
		SelectorLabels: cfg.SelectorLabels.Labels(),
		Filter:         q.keeps,
		Ready:          q.Ready,
		Logger:         deps.Logger,
		Registerer:     deps.Registerer,
	})
	f, err := dedup.ParseFunc(cfg.DedupFunc)
	if err != nil {
		return nil, err
	}
	ring := queryopts.Names(append(cfg.RingLabels.Values(), dedup.RingLabel))
	defaults := queryopts.Defaults{
		Options: queryopts.Options{
			Dedup: true, ReplicaLabels: queryopts.Names(slices.Concat(cfg.ReplicaLabels.Values(), ring)), PartialResponse: cfg.PartialResponse,
		},
		AutoDownsampling: cfg.AutoDownsampling, InstantResolution: cfg.InstantResolution.Duration(),
	}
	if cfg.detects() {
		defaults.DetectedReplicaLabels = newReplicaDetector(q.announcements, deps).names
	}
	var source storeapi.Store = q.fanout
	if deps.Only != nil {
		source = deps.Only
	}
	queryable := NewQueryable(source, QueryableConfig{
		Defaults: defaults.Options, RingLabels: ring, Dedup: f, MaxConcurrentSelects: cfg.MaxConcurrentSelects, Logger: deps.Logger,
		ExemplarsAbort: !cfg.ExemplarPartial,
	})
	q.queryable, q.defaults = queryable, defaults
	engine.requests.slow = slowLog{threshold: cfg.SlowQuery.Duration(), logger: deps.Logger, stores: func() int { return len(q.stores()) }}
	engine.push = newPushdown(q, p)
	q.api = promapi.New(q.apiConfig(engine, p, known))
	return q, nil
}

// apiConfig returns the configuration of the HTTP API. Its Begin charges a request's
// data to the memory budget and the fetch limits of the engine.
func (q *Query) apiConfig(e *engine, p parser.Parser, known features.Collector) promapi.Config {
	lookback := q.cfg.LookbackDelta
	if lookback == 0 {
		lookback = defaultLookback
	}
	return promapi.Config{
		Engine: e, Queryable: q.queryable, Exemplars: q.queryable, Parser: p,
		Defaults: promapi.Defaults{
			Defaults:        q.defaults,
			Step:            q.cfg.Step.Duration(),
			LabelRange:      q.cfg.LabelRange.Duration(),
			FederatePartial: q.cfg.FederatePartial, RemoteReadPartial: q.cfg.RemoteReadPartial, AlertPartial: q.cfg.AlertPartial,
		},
		Federate: promapi.FederateConfig{Lookback: lookback, MaxSeries: q.cfg.FederateMaxSeries},
		Metadata: q.metadata,
		Lists:    q.lists(),
		Stores:   q.storeStatus, ForgetStore: q.forgetStore,
		Tenant: q.tenant,
		Begin: func(r *http.Request) (context.Context, func()) {
			return e.requests.begin(r.Context(), requestInfoOf(r))
		},
		Explain:        q.explain,
		Running:        promapi.Running{List: e.requests.list, End: e.requests.end, Top: e.requests.top.list, Memory: e.budget.status},
		CheckRead:      q.cfg.Limits.expressions().checkRead,
		RangeSteps:     int64(q.cfg.Limits.RangeSteps),
		ErrorCode:      errorCode,
		Ready:          q.Ready,
		Flags:          q.deps.Flags,
		BuildInfo:      statushttp.Build(),
		ExternalPrefix: q.cfg.Web.externalPrefix(),
		PrefixHeader:   q.cfg.Web.PrefixHeader,
		RoutePrefix:    q.cfg.Web.routePrefix(),
		UI:             q.uiConfig(),
		DisableCORS:    q.cfg.Web.DisableCORS,
		Timeout:        q.cfg.Timeout.Duration(),
		Features:       known,
		Logger:         q.deps.Logger,
		Registerer:     q.deps.Registerer,
		Gatherer:       q.deps.Gatherer,
	}
}

// uiConfig returns what the web interface needs to know of the configuration.
func (q *Query) uiConfig() ui.Config {
	c := ui.Config{DefaultTenant: q.cfg.Tenancy.Default, TenantLabel: q.cfg.Tenancy.Label, Pages: q.deps.Pages}
	// Validate has refused wrong ones.
	c.Links, _ = q.cfg.Web.links()
	if q.cfg.Tenancy.CertificateField == "" {
		c.TenantHeader = q.cfg.Tenancy.Header
	}
	return c
}

// RegisterHTTP implements server.Component.
func (q *Query) RegisterHTTP(mux *http.ServeMux) { q.api.Register(mux) }

// UI returns the web interface, for the pages of other roles of the process.
func (q *Query) UI() http.Handler { return q.api.UI() }

// RegisterGRPC implements server.Component: the querier is a store, too, so
// queriers can stand behind queriers.
func (q *Query) RegisterGRPC(r grpc.ServiceRegistrar) { q.registerGRPC(r) }

// Ready implements server.Component.
func (q *Query) Ready() error { return q.set.Ready() }

// Run implements server.Component.
func (q *Query) Run(ctx context.Context) error {
	idle := time.NewTicker(idleInterval)
	defer idle.Stop()
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { q.engine.budget.giveBack(ctx, idle.C, debug.FreeOSMemory) })
	err := q.set.Run(ctx)
	stop()
	wg.Wait()
	return errors.Join(err, q.engine.Close())
}

// stores are all that a query may need.
func (q *Query) stores() []storeapi.Store {
	endpoints := q.set.Endpoints()
	out := make([]storeapi.Store, 0, len(endpoints)+len(q.deps.LocalStores))
	out = append(out, q.deps.LocalStores...)
	for _, e := range endpoints {
		out = append(out, e)
	}
	return out
}

// metadata merges the descriptions of metrics of all stores.
func (q *Query) metadata(ctx context.Context, metric string, limit int) (map[string][]promapi.Metadata, []string, error) {
	if limit < 0 {
		limit = cmp.Or(accountOf(ctx).mostEntries(0), -1)
	}
	found, ws, err := q.visibleMetadata(ctx, metric, limit)
	if err == nil {
		err = accountOf(ctx).entries(len(found))
	}
	if err != nil {
		return nil, nil, err
	}
	report := storeapi.ReportFromContext(ctx)
	for _, w := range ws {
		report.Warn(w)
	}
	if len(ws) > 0 && !q.cfg.MetadataPartial {
		return nil, nil, fmt.Errorf("%w: %s", storeapi.ErrPartial, ws[0].Text)
	}
	out := make(map[string][]promapi.Metadata, len(found))
	for name, metas := range found {
		for _, m := range metas {
			out[name] = append(out[name], promapi.Metadata{Type: m.Type, Help: m.Help, Unit: m.Unit})
		}
	}
	return out, ws.Strings(), nil
}

func (q *Query) storeStatus() []promapi.StoreStatus {
	var out []promapi.StoreStatus
	for _, e := range q.set.Endpoints() {
		st := e.Status()
		out = append(out, promapi.StoreStatus{
			Component: component(st.Info.Component), Name: st.Name, Health: health(st),
			LastCheck: st.LastCheck, LastError: st.LastError, LabelSets: st.Info.LabelSets,
			MinTime: st.Info.MinTime, MaxTime: st.Info.MaxTime, Contacted: st.Contacted, Strict: st.Strict,
			Warnings: st.Info.Warnings,
		})
	}
	for i, s := range q.deps.LocalStores {
		info := s.Info()
		out = append(out, promapi.StoreStatus{
			Component: component(info.Component), Name: fmt.Sprintf("local/%s-%d", component(info.Component), i),
			Health: "up", LabelSets: info.LabelSets, MinTime: info.MinTime, MaxTime: info.MaxTime, Contacted: true,
			Warnings: info.Warnings,
		})
	}
	warnOfEqualLabels(out)
	return out
}

// forgetStore removes a store that discovery no longer names; code is the HTTP
// status of an error.
func (q *Query) forgetStore(address string) (code int, err error) {
	err = q.set.Forget(address)
	switch {
	case errors.Is(err, endpoint.ErrNoSuchStore):
		return http.StatusNotFound, err
	case err != nil:
		return http.StatusConflict, err
	}
	q.deps.Logger.Info("store removed by request", "address", address)
	return http.StatusOK, nil
}

func component(name string) string {
	switch name {
	case "sidecar", "store", "receive", "rule", "query", "debug":
		return name
	}
	return "unknown-store-api"
}

func health(st endpoint.Status) string {
	switch {
	case st.Up:
		return "up"
	case st.LastCheck.IsZero():
		return "unknown"
	}
	return "missing"
}

// errorCode is the HTTP status of an error of this package, or 0.
func errorCode(err error) int {
	if errors.Is(err, errBusy) {
		return http.StatusServiceUnavailable
	}
	return 0
}
