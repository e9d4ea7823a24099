package promapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/httputil"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/sizing/sizinghttp"
	"github.com/hindsight-io/hindsight/pkg/statushttp"
	"github.com/hindsight-io/hindsight/pkg/ui"
)

// Config is the configuration of the API.
type Config struct {
	Engine    promql.QueryEngine
	Queryable storage.SampleAndChunkQueryable
	Exemplars storage.ExemplarQueryable
	Parser    parser.Parser
	Defaults  Defaults
	Federate  FederateConfig
	// Metadata returns the descriptions of metrics: all when metric is empty,
	// at most limit names unless limit is negative.
	Metadata MetadataFunc
	Lists    Lists
	// Stores lists the stores.
	Stores func() []StoreStatus
	// ForgetStore removes a missing store, by its address, from those that answers
	// are expected to have. Its errors are those of the client, with their status.
	ForgetStore func(address string) (code int, err error)
	// Tenant returns the context of a request, with its tenant, and the
	// matcher that must hold for everything that the request reads, or nil. May
	// be nil. Its errors are the client's.
	Tenant func(r *http.Request) (context.Context, *labels.Matcher, error)
	// Begin returns the context with which one request reads, and what must be
	// called once its answer is written. The form of the request has been parsed.
	// May be nil.
	Begin func(*http.Request) (context.Context, func())
	// Explain says how a query would be evaluated.
	Explain Explainer
	// Running lists and ends the requests that run.
	Running Running
	// RangeSteps bounds the steps of a range query; 0 means what Prometheus allows.
	RangeSteps int64
	// ErrorCode returns the HTTP status of an error of the storage or the
	// engine, or 0 where it has none of its own. May be nil.
	ErrorCode func(error) int
	// CheckRead refuses a request of remote read that would cost too much, which
	// is the client's error. May be nil.
	CheckRead func(*prompb.ReadRequest) error
	// Ready is nil, or says why the API cannot answer yet. May be nil.
	Ready func() error
	// Timeout bounds a request that reads; 0 means that nothing does.
	Timeout   time.Duration
	Flags     map[string]string
	BuildInfo v1.PrometheusVersion
	// ExternalPrefix is the path of the first page as a browser sees it, "" when
	// it is RoutePrefix.
	ExternalPrefix string
	// PrefixHeader names a header with the path that a proxy has taken off; it
	// counts when ExternalPrefix is empty.
	PrefixHeader string
	// RoutePrefix is where everything is served, "" or "/some/path".
	RoutePrefix string
	// UI is what the web interface knows of this process, but for its version. Its
	// pages are those of other roles of the process.
	UI          ui.Config
	DisableCORS bool
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	Gatherer    prometheus.Gatherer
	// Features lists the features of the querier for clients.
	Features features.Collector
	Now      func() time.Time
}

// API serves HTTP. Create one with New.
type API struct {
	cfg     Config
	metrics *metrics
	v1      http.Handler
	ui      *ui.UI
	started time.Time
	// reads are the places of remote read.
	reads chan struct{}
}

// New returns the API.
func New(cfg Config) *API {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Features == nil {
		cfg.Features = features.NewRegistry()
	}
	if cfg.Gatherer == nil {
		cfg.Gatherer = prometheus.NewRegistry()
	}
	a := &API{cfg: cfg, metrics: newMetrics(cfg.Registerer), started: cfg.Now(), reads: make(chan struct{}, remoteReadConcurrency)}
	a.v1, a.ui = a.prometheusAPI(), a.newUI()
	return a
}

// prometheusAPI embeds the API package of Prometheus.
func (a *API) prometheusAPI() http.Handler {
	p := newPrinter(a.cfg.ErrorCode)
	api := v1.NewAPI(
		a.cfg.Engine, a.cfg.Queryable, nil, a.cfg.Exemplars,
		func(context.Context) v1.ScrapePoolsRetriever { return noRules{} },
		func(context.Context) v1.TargetRetriever { return nil },
		func(context.Context) v1.AlertmanagerRetriever { return noRules{} },
		func() config.Config { return config.Config{} },
		a.cfg.Flags, v1.GlobalURLOptions{},
		func(f http.HandlerFunc) http.HandlerFunc { return f },
		nil, "", false, false, 0, a.cfg.Logger,
		func(context.Context) v1.RulesRetriever { return noRules{} },
		remoteReadSamples, remoteReadConcurrency, remoteReadFrame, false,
		// CORS headers are set by a.answering.
		regexp.MustCompile("^$"),
		a.runtimeInfo, &a.cfg.BuildInfo, nil, nil,
		a.cfg.Gatherer, a.cfg.Registerer, renderStats,
		false, nil, false, false, false, 0, false, false,
		errorCode(v1.ErrorCanceled, p.codeOf), a.cfg.Features, noOpenAPI(), a.cfg.Parser, false, 0,
	)
	api.ClearCodecs()
	api.InstallCodec(p)
	r := route.New()
	api.Register(r.WithPrefix("/api/v1"))
	return withoutOrigin(p.wrap(r))
}

// noOpenAPI leaves the paths out of a description that is not served, and takes a tenth
// of a second to print.
func noOpenAPI() v1.OpenAPIOptions { return v1.OpenAPIOptions{IncludePaths: []string{"/-"}} }

// Bounds of remote read, as Prometheus has them.
const (
	remoteReadSamples     = 5e7
	remoteReadConcurrency = 10
	remoteReadFrame       = 1 << 20
)

// errorCode gives a cancelled query the status of one that timed out: the
// field's proxies know what to do with it. own may be nil.
func errorCode[Kind ~int](canceled Kind, own func(error) int) func(Kind, error) (int, bool) {
	return func(kind Kind, err error) (int, bool) {
		if own != nil {
			if code := own(err); code != 0 {
				return code, true
			}
		}
		return http.StatusServiceUnavailable, kind == canceled
	}
}

func (a *API) runtimeInfo() (v1.RuntimeInfo, error) { return statushttp.Runtime(a.started), nil }

// Register adds all pages to the mux: below the root, and the API also where
// users of Cortex and Mimir look for it.
func (a *API) Register(mux *http.ServeMux) {
	root := strings.TrimSuffix(a.cfg.RoutePrefix, "/")
	api := a.routes()
	mux.Handle(root+"/api/v1/", strip(root, api))
	for _, prefix := range []string{"/prometheus", "/api/prom"} {
		if prefix != root {
			mux.Handle(root+prefix+"/api/v1/", strip(root+prefix, api))
			mux.Handle(root+prefix+"/federate", strip(root+prefix, api))
		}
	}
	mux.Handle(root+"/federate", strip(root, api))
	a.registerPages(mux, root)
	if root != "" {
		mux.HandleFunc("GET "+root+errorid.Path+"{id}", errorid.Serve) // as each process does at its root
		mux.HandleFunc("GET /{$}", a.toRoot)
		mux.HandleFunc("GET "+root, a.toRoot)
	}
}

// registerPages adds the web interface: its pages, the first one of them at the root.
// Links of dashboards and alerts lead to the page /graph, as in Prometheus and Thanos.
func (a *API) registerPages(mux *http.ServeMux, root string) {
	a.ui.Register(mux, root)
	mux.Handle("GET "+root+"/{$}", a.ui)
	for _, path := range ownPages() {
		mux.Handle("GET "+root+"/"+path, a.ui)
	}
}

// ownPages are the paths of the pages of a querier.
func ownPages() []string {
	return []string{"graph", "stores", "queries", "top-queries", "targets", "rules", "alerts", "cardinality", "status", "sizing"}
}

// newUI returns the web interface, with the pages of the querier before those of other
// roles.
func (a *API) newUI() *ui.UI {
	cfg := a.cfg.UI
	cfg.Role, cfg.Version, cfg.Pages = "query", a.cfg.BuildInfo.Version, append(ownPages(), cfg.Pages...)
	cfg.Base = a.linkPrefix
	return ui.New(cfg)
}

// UI returns the web interface, for the pages of other roles of the process.
func (a *API) UI() http.Handler { return a.ui }

// toRoot leads to the first page.
func (a *API) toRoot(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, a.linkPrefix(r)+"/", http.StatusFound)
}

// linkPrefix stands before the paths of redirects: the external prefix
// is the whole path that a browser sees; the one that a proxy tells in a header
// was taken off, so that what is served here follows it.
func (a *API) linkPrefix(r *http.Request) string {
	root := strings.TrimSuffix(a.cfg.RoutePrefix, "/")
	if a.cfg.ExternalPrefix != "" {
		return a.cfg.ExternalPrefix
	}
	if a.cfg.PrefixHeader == "" {
		return root
	}
	// One slash in front: two would lead to another host.
	prefix := strings.Trim(r.Header.Get(a.cfg.PrefixHeader), "/\\")
	if prefix == "" {
		return root
	}
	return "/" + prefix + root
}

func strip(prefix string, h http.Handler) http.Handler {
	if prefix == "" {
		return h
	}
	return http.StripPrefix(prefix, h)
}

// routes lists the paths, each with the middleware before it.
func (a *API) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{
		"query", "query_range", "query_exemplars", "labels", "label/{name}/values", "series",
	} {
		mux.Handle("/api/v1/"+path, a.reading(completed(a.v1)))
	}
	mux.Handle("/api/v1/format_query", a.printable(compressed(a.v1.ServeHTTP)))
	mux.Handle("POST /api/v1/read", a.reading(http.HandlerFunc(a.remoteRead)))
	for _, path := range []string{
		"parse_query", "alertmanagers", "features",
		"status/buildinfo", "status/runtimeinfo", "status/flags",
	} {
		mux.Handle("/api/v1/"+path, compressed(a.v1.ServeHTTP))
	}
	for path, list := range map[string]http.HandlerFunc{
		"rules": a.rules, "alerts": a.alerts, "targets": a.targets, "scrape_pools": a.scrapePools, "status/tsdb": a.tsdbStatus,
	} {
		mux.Handle("GET /api/v1/"+path, a.reading(completed(list)))
	}
	mux.Handle("GET /api/v1/metadata", a.reading(completed(http.HandlerFunc(a.metadata))))
	mux.Handle("GET /api/v1/stores", a.forTenant(compressed(a.storesJSON)))
	mux.Handle("GET /api/v1/stores/findings", a.forTenant(compressed(a.storeFindings)))
	for _, path := range []string{"query_explain", "query_range_explain"} {
		mux.Handle("GET /api/v1/"+path, a.reading(compressed(a.explain)))
		mux.Handle("POST /api/v1/"+path, a.reading(compressed(a.explain)))
	}
	mux.Handle("GET /api/v1/queries", a.forTenant(compressed(a.runningQueries)))
	mux.Handle("GET /api/v1/top_queries", a.forTenant(compressed(a.topQueries)))
	mux.Handle("GET /api/v1/status/memory", a.forTenant(compressed(a.memoryStatus)))
	mux.HandleFunc("GET /api/v1/sizing", sizinghttp.Serve)
	mux.Handle("DELETE /api/v1/queries/{id}", a.forTenant(http.HandlerFunc(a.endQuery)))
	mux.Handle("DELETE /api/v1/stores", a.forTenant(http.HandlerFunc(a.forgetStore)))
	mux.Handle("GET /federate", a.reading(compressed(a.federate)))
	mux.HandleFunc(unmatched, answerUnmatched(mux))
	return a.answering(mux)
}

// compressed answers in the encoding that the client accepts.
func compressed(f http.HandlerFunc) http.Handler { return httputil.CompressionHandler{Handler: f} }

// noRules stands for the parts of a Prometheus server that a querier does not
// have: rules, scrape pools, Alertmanagers.
type noRules struct{}

func (noRules) RuleGroups() []*rules.Group           { return nil }
func (noRules) AlertingRules() []*rules.AlertingRule { return nil }
func (noRules) ScrapePools() []string                { return []string{} }
func (noRules) Alertmanagers() []*url.URL            { return nil }
func (noRules) DroppedAlertmanagers() []*url.URL     { return nil }
