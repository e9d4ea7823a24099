package query

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/query/endpoint"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Config is everything that can be said about a querier. RegisterFlags sets the
// defaults.
type Config struct {
	Endpoints EndpointsConfig
	Web       WebConfig
	Tenancy   TenancyConfig
	Limits    LimitsConfig

	Timeout          flags.Duration
	Engine           string
	EnableXFunctions bool
	Mode             string
	// GatewayEvaluation lets store gateways evaluate parts of queries, in both modes.
	GatewayEvaluation    bool
	MaxConcurrent        int
	MaxSamples           int
	LookbackDelta        time.Duration
	DynamicLookback      bool
	MaxConcurrentSelects int
	DedupFunc            string
	ReplicaLabels        flags.List
	DetectReplicaLabels  bool
	RingLabels           flags.List
	PartitionLabels      flags.List
	LabelRange           flags.Duration
	SelectorLabels       flags.LabelSet
	AutoDownsampling     bool
	InstantResolution    flags.Duration
	PartialResponse      bool
	ActiveQueryPath      string
	Features             flags.List
	SubqueryStep         flags.Duration
	Step                 flags.Duration
	ResponseTimeout      flags.Duration
	AlertURL             string
	FederateMaxSeries    int
	// SlowQuery is how long a request may take without a log line; 0 logs none.
	SlowQuery       flags.Duration
	LimitSeries     uint64
	LimitSamples    uint64
	SelectorRelabel flags.PathOrContent
	// FederatePartial answers requests to /federate without the data of a missing
	// store, RemoteReadPartial those of remote read, and AlertPartial those of
	// Grafana's rules.
	FederatePartial, RemoteReadPartial, AlertPartial bool
	// ExemplarPartial answers without the exemplars of a missing store.
	ExemplarPartial bool
	// The same for rules and alerts, targets, metadata of metrics and statistics
	// of TSDBs.
	RulePartial, TargetPartial, MetadataPartial, StatusPartial bool

	ignored ignoredFlags
}

// WebConfig is the configuration of paths and headers of the HTTP API.
type WebConfig struct {
	RoutePrefix    string
	ExternalPrefix string
	PrefixHeader   string
	DisableCORS    bool
	// Links are pages of other processes, each as title=URL.
	Links []string
}

// TenancyConfig is the configuration of tenants of requests.
type TenancyConfig struct {
	Header           string
	Default          string
	CertificateField string
	Enforce          bool
	Label            string
}

// ignoredFlags are accepted because they stand in people's manifests. None of
// them changes an answer.
type ignoredFlags struct {
	connLabels, dnsResolver, proxyStrategy       string
	requestBuckets, sampleClasses, seriesClasses []string
	lazyBuffer                                   int
	disableFallback, overlapping                 bool
}

// DefaultConfig returns the defaults of the flags, for a program that has no
// flags for this role.
func DefaultConfig() Config {
	return Config{
		Endpoints: EndpointsConfig{
			SDInterval: flags.Duration(5 * time.Minute), DNSInterval: flags.Duration(30 * time.Second),
			Unhealthy: flags.Duration(5 * time.Minute), Expected: flags.Duration(24 * time.Hour), InfoTimeout: flags.Duration(5 * time.Second),
			ConfigReload: flags.Duration(5 * time.Minute), MinVersion: "1.3", Compression: endpoint.CompressionNone, Hedge: true,
		},
		Tenancy: TenancyConfig{Header: tenant.Header, Default: tenant.Default, Label: "tenant_id"},
		Limits: LimitsConfig{
			FetchedSeries: 1_000_000, FetchedChunks: 4_000_000, FetchedBytes: 1 << 30, SubquerySteps: 1_000_000,
			RangeSteps: maxRangePoints, ResultPoints: 20_000_000, ListEntries: 2_000_000, ExpressionNodes: 20_000,
			ExpressionBytes: 128 << 10, ExpressionDepth: 1000, Selectors: 1000, Matchers: 5000, RegexpSize: 250_000,
		},
		Timeout: flags.Duration(2 * time.Minute), Engine: "prometheus", Mode: "local", GatewayEvaluation: true,
		MaxConcurrent: 20, MaxSamples: 50_000_000, DynamicLookback: true, MaxConcurrentSelects: 4,
		DedupFunc: string(dedup.FuncCoverage), DetectReplicaLabels: true, SubqueryStep: flags.Duration(time.Minute), Step: flags.Duration(time.Second),
		FederateMaxSeries: 100_000, SlowQuery: flags.Duration(10 * time.Second), PartialResponse: true,
		ExemplarPartial: true, TargetPartial: true, MetadataPartial: true, StatusPartial: true,
	}
}

// RegisterFlags adds the flags of the querier.
func (c *Config) RegisterFlags(r flags.Registrar) {
	c.Endpoints.registerFlags(r)
	c.Web.registerFlags(r)
	c.Tenancy.registerFlags(r)
	c.RegisterLimitFlags(r)
	c.registerQueryFlags(r)
	c.registerSettings(r)
	c.registerAnswerFlags(r)
	c.ignored.registerFlags(r)
}

// RegisterLimitFlags adds the flags that limit requests. They are a
// part of RegisterFlags.
func (c *Config) RegisterLimitFlags(r flags.Registrar) {
	c.registerEvaluationLimits(r)
	r.Flag("query.federate.max-series", "Largest number of series in an answer of /federate; 0 means no limit.").
		Default("100000").IntVar(&c.FederateMaxSeries)
	r.Flag("query.log-queries-longer-than", "Log requests that take longer, with expression, times, tenant, duration, samples and stores; 0s logs none.").
		Default("10s").SetValue(&c.SlowQuery)
}

// registerEvaluationLimits adds the limits of evaluations.
func (c *Config) registerEvaluationLimits(r flags.Registrar) {
	r.Flag("query.timeout", "Longest time that a query may take, reading from the stores included.").
		Default("2m").SetValue(&c.Timeout)
	r.Flag("query.max-concurrent", "Queries that are evaluated at the same time; more wait for their turn. A query that waits for stores does not count.").
		Default("20").IntVar(&c.MaxConcurrent)
	r.Flag("query.max-samples", "Samples that one query may hold in memory at once: those that it has read from the stores and not evaluated yet, and its results; a native histogram counts by its size. 0 means no limit.").
		Default("50000000").IntVar(&c.MaxSamples)
	c.Limits.registerFlags(r)
}

// TakeLimits copies the values of the flags of RegisterLimitFlags.
func (c *Config) TakeLimits(from *Config) {
	c.Timeout, c.MaxConcurrent, c.MaxSamples = from.Timeout, from.MaxConcurrent, from.MaxSamples
	c.FederateMaxSeries, c.Limits, c.SlowQuery = from.FederateMaxSeries, from.Limits, from.SlowQuery
}

func (c *Config) registerQueryFlags(r flags.Registrar) {
	r.Flag("query.promql-engine", flags.Ignored("every query is evaluated by the engine of Prometheus, which gives the same answers")).
		Default("prometheus").EnumVar(&c.Engine, "prometheus", "thanos")
	r.Flag("query.enable-x-functions", "Refused: xrate, xincrease and xdelta exist in another engine only.").
		BoolVar(&c.EnableXFunctions)
	r.Flag("query.mode", "local evaluates queries here, over the data of all stores; distributed lets queriers among the endpoints evaluate those parts of queries whose results are provably the same.").
		Default("local").EnumVar(&c.Mode, "local", "distributed")
	r.Flag("query.gateway-evaluation", "Let a store gateway evaluate those parts of queries of which it alone has the data and whose results are the same, so that results travel instead of chunks.").
		Default("true").BoolVar(&c.GatewayEvaluation)
	r.Flag("query.max-concurrent-select", "Selectors of one query that are read at the same time.").
		Default("4").IntVar(&c.MaxConcurrentSelects)
	r.Flag("query.active-query-path", "Directory for the file queries.active, which names the queries that ran when the process died; empty means none.").
		StringVar(&c.ActiveQueryPath)
	r.Flag("query.default-step", "Smallest step of range queries that name none.").
		Default("1s").SetValue(&c.Step)
}

// registerSettings registers the flags that decide results beside those of a request; see
// settings.
func (c *Config) registerSettings(r flags.Registrar) {
	r.Flag("query.lookback-delta", "How old the newest sample of a series may be to count as its present value; 0s means 5m.").
		Default("0s").DurationVar(&c.LookbackDelta)
	r.Flag("query.dynamic-lookback-delta", "Look back as far as one step of the downsampled data that a query may use.").
		Hidden().Default("true").BoolVar(&c.DynamicLookback)
	r.Flag("enable-feature", "PromQL features to switch on: promql-experimental-functions. Repeatable.").
		SetValue(&c.Features)
	r.Flag("query.default-evaluation-interval", "Step of sub-queries that name none.").
		Default("1m").SetValue(&c.SubqueryStep)
	r.Flag("deduplication.func", "How replicas are merged: coverage follows one replica and fills every hole of it from the others; penalty and chain merge as Thanos does with these names.").
		Default(string(dedup.FuncCoverage)).EnumVar(&c.DedupFunc, string(dedup.FuncCoverage), string(dedup.FuncPenalty), string(dedup.FuncChain))
	r.Flag("query.ring-replica-label", "Replica label in which the nodes of a hashring differ. They store copies of the same samples: all samples of all copies count. It need not be named by --query.replica-label too. Repeatable, and lists with commas are split. receive_replica is always one.").
		SetValue(&c.RingLabels)
	r.Flag("query.instant.default.max_source_resolution", "Coarsest resolution for instant queries with automatic downsampling.").
		Hidden().Default("0s").SetValue(&c.InstantResolution)
}

// registerAnswerFlags registers the flags that decide the data of an answer: merging
// of replicas, downsampled data, partial responses, and the limits of answers over
// gRPC.
func (c *Config) registerAnswerFlags(r flags.Registrar) {
	r.Flag("query.replica-label", "Label in which the replicas of a series differ; it is removed when they are merged. Repeatable, and lists with commas are split. receive_replica is always one.").
		SetValue(&c.ReplicaLabels)
	r.Flag("query.detect-replica-labels", "Without --query.replica-label, remove labels of well-known names, such as replica and prometheus_replica, once the stores announce label sets that are equal but for them.").
		Default("true").BoolVar(&c.DetectReplicaLabels)
	r.Flag("query.partition-label", flags.Ignored("it matters to distributed evaluation only")).
		SetValue(&c.PartitionLabels)
	r.Flag("query.metadata.default-time-range", "How far back labels and series are listed when a request has no start; 0s means all time.").
		Default("0s").SetValue(&c.LabelRange)
	r.Flag("selector-label", "Label that this querier announces to its clients. Repeatable.").
		PlaceHolder("<name>=\"<value>\"").SetValue(&c.SelectorLabels)
	r.Flag("query.auto-downsampling", "Use downsampled data of up to a fifth of the step when a range query has no max_source_resolution.").
		BoolVar(&c.AutoDownsampling)
	r.Flag("query.partial-response", "Answer without the data of missing stores, with a warning that names them; partial_response of a request overrides it.").
		Default("true").BoolVar(&c.PartialResponse)
	r.Flag("query.federate.partial-response", "Answer requests to /federate without the data of missing stores; partial_response of a request overrides it. The scraping server stores the answer and sees no warning.").
		BoolVar(&c.FederatePartial)
	r.Flag("query.remote-read.partial-response", "The same for remote read.").
		BoolVar(&c.RemoteReadPartial)
	r.Flag("query.alert.partial-response", "The same for queries of Grafana's alert rules, which have the header FromAlert: true.").
		BoolVar(&c.AlertPartial)
	r.Flag("exemplar.partial-response", "Answer with the exemplars of the other stores when a store is missing; requests cannot override it.").
		Hidden().Default("true").BoolVar(&c.ExemplarPartial)
	r.Flag("rule.partial-response", "Answer with the rules and alerts of the other stores when a store is missing, unless the request sets partial_response.").
		BoolVar(&c.RulePartial)
	r.Flag("target.partial-response", "Answer with the targets of the other stores when a store is missing, unless the request sets partial_response.").
		Hidden().Default("true").BoolVar(&c.TargetPartial)
	r.Flag("metric-metadata.partial-response", "Answer with the metadata of metrics of the other stores when a store is missing; requests cannot override it.").
		Hidden().Default("true").BoolVar(&c.MetadataPartial)
	r.Flag("status.partial-response", "Answer with the statistics of the TSDBs of the other stores when a store is missing, unless the request sets partial_response.").
		Hidden().Default("true").BoolVar(&c.StatusPartial)
	r.Flag("store.response-timeout", "How long a store may be silent in its answer; 0ms means as its own latency and the time of the request allow. A shorter time follows from its latency.").
		Default("0ms").SetValue(&c.ResponseTimeout)
	r.Flag("alert.query-url", flags.Ignored("no page has links to alerts")).StringVar(&c.AlertURL)
	r.Flag("store.limits.request-series", "Series that one request for data of this querier over gRPC may return; 0 means no limit.").
		Default("0").Uint64Var(&c.LimitSeries)
	r.Flag("store.limits.request-samples", "Samples that one request for data of this querier over gRPC may return, counted as 120 for each chunk; 0 means no limit.").
		Default("0").Uint64Var(&c.LimitSamples)
	c.SelectorRelabel.Register(r, "selector.relabel-config", "relabelling that chooses stores by their external labels (actions keep, drop, hashmod)", true)
}

func (c *WebConfig) registerFlags(r flags.Registrar) {
	r.Flag("web.route-prefix", "Path under which the API and the pages are served; empty means that of --web.external-prefix.").
		StringVar(&c.RoutePrefix)
	r.Flag("web.external-prefix", "Path to put before all links, for a proxy that removes it.").
		StringVar(&c.ExternalPrefix)
	r.Flag("web.prefix-header", "Request header with that path; ignored with --web.external-prefix.").
		StringVar(&c.PrefixHeader)
	r.Flag("web.disable-cors", "Do not allow pages of other origins to read the API.").
		BoolVar(&c.DisableCORS)
	r.Flag("web.link", "Page of another process for the navigation, such as Compactor=http://compact:10902/. A path leads to the host of the querier. Repeatable.").
		PlaceHolder("<title>=<url>").StringsVar(&c.Links)
}

func (c *TenancyConfig) registerFlags(r flags.Registrar) {
	r.Flag("query.tenant-header", "HTTP header that names the tenant; without it THANOS-TENANT does, then X-Scope-OrgID, and two of them must not differ. a|b names several tenants.").
		Default("THANOS-TENANT").StringVar(&c.Header)
	r.Flag("query.default-tenant-id", "Tenant of requests that name none.").
		Default("default-tenant").StringVar(&c.Default)
	r.Flag("query.tenant-certificate-field", "Field of the client certificate that names the tenant, instead of a header.").
		EnumVar(&c.CertificateField, "organization", "organizationalUnit", "commonName")
	r.Flag("query.enforce-tenancy", "Show each tenant only the series that carry its name in the tenant label, the metadata of its own metrics, and the stores that have its data.").
		BoolVar(&c.Enforce)
	r.Flag("query.tenant-label-name", "The tenant label.").
		Default("tenant_id").StringVar(&c.Label)
}

func (c *ignoredFlags) registerFlags(r flags.Registrar) {
	ignored := flags.Ignored("")
	r.Flag("query.conn-metric.label", ignored).Hidden().StringVar(&c.connLabels)
	r.Flag("query.telemetry.request-duration-seconds-quantiles", ignored).Hidden().StringsVar(&c.requestBuckets)
	r.Flag("query.telemetry.request-samples-quantiles", ignored).Hidden().StringsVar(&c.sampleClasses)
	r.Flag("query.telemetry.request-series-seconds-quantiles", ignored).Hidden().StringsVar(&c.seriesClasses)
	r.Flag("query.disable-fallback", ignored).Hidden().BoolVar(&c.disableFallback)
	r.Flag("query.distributed-with-overlapping-interval", ignored).Hidden().BoolVar(&c.overlapping)
	r.Flag("grpc.proxy-strategy", ignored).Hidden().Default("lazy").EnumVar(&c.proxyStrategy, "eager", "lazy")
	r.Flag("query.lazy-retrieval-max-buffered-responses", ignored).Hidden().Default("20").IntVar(&c.lazyBuffer)
	r.Flag("store.sd-dns-resolver", ignored).Hidden().Default("golang").EnumVar(&c.dnsResolver, "golang", "miekgdns")
}

// features that PromQL has always switched on by now.
var oldFeatures = [...]string{"promql-negative-offset", "promql-at-modifier", "query-pushdown"}

const experimentalFunctions = "promql-experimental-functions"

// Validate returns an error for invalid flags.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.EnableXFunctions {
		fail("--query.enable-x-functions: xrate, xincrease and xdelta are not available; queries that use them would fail")
	}
	if c.MaxConcurrent < 1 {
		fail("--query.max-concurrent=%d: at least one query must be allowed", c.MaxConcurrent)
	}
	if c.MaxSamples < 0 || c.FederateMaxSeries < 0 {
		fail("--query.max-samples and --query.federate.max-series must not be negative")
	}
	if c.SubqueryStep.Duration() < time.Millisecond {
		fail("--query.default-evaluation-interval must be at least 1ms")
	}
	errs = append(errs, c.Limits.validate())
	if c.MaxConcurrentSelects < 1 {
		fail("--query.max-concurrent-select=%d: at least one must be allowed", c.MaxConcurrentSelects)
	}
	if c.LookbackDelta < 0 {
		fail("--query.lookback-delta=%s must not be negative", c.LookbackDelta)
	}
	if c.Timeout <= 0 {
		fail("--query.timeout must be more than 0s")
	}
	if _, err := dedup.ParseFunc(c.DedupFunc); err != nil {
		fail("--deduplication.func: %w", err)
	}
	for _, f := range c.Features.Values() {
		if f != "" && f != experimentalFunctions && !slices.Contains(oldFeatures[:], f) {
			fail("--enable-feature=%s: there is no such feature (choose %s)", f, experimentalFunctions)
		}
	}
	if _, err := c.selector(); err != nil {
		errs = append(errs, err)
	}
	if c.AlertURL != "" {
		if _, err := url.Parse(c.AlertURL); err != nil {
			fail("--alert.query-url: %w", err)
		}
	}
	if c.Tenancy.Enforce && c.Tenancy.Label == "" {
		fail("--query.enforce-tenancy needs a --query.tenant-label-name")
	}
	errs = append(errs, c.Web.validate(), c.Endpoints.validate())
	if err := errors.Join(errs...); err != nil {
		return flags.Invalid(err)
	}
	return nil
}

// routePrefix is "" or a path that starts with a slash and does not end in one.
func (c WebConfig) routePrefix() string {
	p := c.RoutePrefix
	if p == "" {
		p = c.externalPrefix()
	}
	return cleanPrefix(p)
}

// validate refuses prefixes under which nothing can be served.
func (c WebConfig) validate() error {
	for _, p := range []struct{ flag, given, prefix string }{
		{"web.route-prefix", c.RoutePrefix, cleanPrefix(c.RoutePrefix)},
		{"web.external-prefix", c.ExternalPrefix, c.externalPrefix()},
	} {
		steps := strings.Split(strings.TrimPrefix(p.prefix, "/"), "/")
		unclean := slices.ContainsFunc(steps, func(s string) bool { return s == "" || s == "." || s == ".." })
		if p.prefix != "" && (unclean || strings.ContainsAny(p.prefix, "{}?#\\ ") || !strconv.CanBackquote(p.prefix)) {
			return fmt.Errorf("--%s=%q is not a path such as /hindsight", p.flag, p.given)
		}
	}
	_, err := c.links()
	return err
}

// externalPrefix is the path of the configured prefix, which may be a URL.
func (c WebConfig) externalPrefix() string {
	if u, err := url.Parse(c.ExternalPrefix); err == nil && u.Scheme != "" {
		return cleanPrefix(u.Path)
	}
	return cleanPrefix(c.ExternalPrefix)
}

func cleanPrefix(p string) string {
	p = strings.Trim(p, "/")
	if p == "" {
		return ""
	}
	return "/" + p
}
