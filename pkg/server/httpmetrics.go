package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hindsight-io/hindsight/pkg/grpcmetrics"
)

// httpMetrics counts and times the requests of a listener by handler.
type httpMetrics struct {
	handlers map[string]http.Handler
}

// instrument registers the metrics of the HTTP requests of all listeners. It returns the
// middleware that measures a handler under the name of each request's handler; the series
// of its served handlers exist from the start.
func instrument(reg prometheus.Registerer) func(next http.Handler, served []string) http.Handler {
	f := promauto.With(reg)
	requests := f.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "HTTP requests.",
	}, []string{"handler", "method", "code"})
	duration := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "Time from the header of an HTTP request to the end of its answer.",
		Buckets:                     []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120, 240, 360, 720},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 256,
	}, []string{"handler", "method", "code"})
	requestSize := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_size_bytes", Help: "Size of HTTP requests.", Buckets: prometheus.ExponentialBuckets(64, 2, 10),
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 256,
	}, []string{"handler", "method", "code"})
	responseSize := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_response_size_bytes", Help: "Size of HTTP answers.", Buckets: prometheus.ExponentialBuckets(64, 2, 10),
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 256,
	}, []string{"handler", "method", "code"})
	inFlight := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "http_inflight_requests", Help: "HTTP requests in flight.",
	}, []string{"handler", "method"})

	return func(next http.Handler, served []string) http.Handler {
		m := httpMetrics{handlers: map[string]http.Handler{}}
		for _, name := range served {
			requests.WithLabelValues(name, "get", "200")
			inFlight.WithLabelValues(name, "get")
			// The share of failed requests is 0 then, not absent, and its rate sees the first one.
			for _, method := range failing()[name] {
				requests.WithLabelValues(name, method, "500")
				requests.WithLabelValues(name, method, "503")
			}
		}
		for _, name := range handlerNames() {
			labels := prometheus.Labels{"handler": name}
			h := promhttp.InstrumentHandlerCounter(requests.MustCurryWith(labels), next)
			h = promhttp.InstrumentHandlerRequestSize(requestSize.MustCurryWith(labels), h)
			h = promhttp.InstrumentHandlerResponseSize(responseSize.MustCurryWith(labels), h).(http.HandlerFunc)
			h = promhttp.InstrumentHandlerDuration(duration.MustCurryWith(labels), h, promhttp.WithExemplarFromContext(grpcmetrics.Exemplar))
			m.handlers[name] = countInFlight(inFlight.MustCurryWith(labels), h)
		}
		return m
	}
}

// failing returns the methods of the handlers whose share of failed requests alerts watch.
func failing() map[string][]string {
	both, post := []string{"get", "post"}, []string{"post"}
	return map[string][]string{
		"query": both, "query_range": both, "series": both, "label_names": both, "label_values": {"get"},
		"receive": post, "otlp": post,
	}
}

func countInFlight(g *prometheus.GaugeVec, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in := g.WithLabelValues(methodLabel(r.Method))
		in.Inc()
		defer in.Dec()
		next.ServeHTTP(w, r)
	})
}

// methodLabel bounds the number of label values: clients may send any method.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return strings.ToLower(method)
	}
	return "other"
}

// ServeHTTP implements http.Handler.
func (m httpMetrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := m.handlers[handlerName(r.URL.Path)]
	if !ok {
		h = m.handlers[otherHandler]
	}
	h.ServeHTTP(w, r)
}

const otherHandler = "other"

// handlerPaths names the handlers by the ends of their paths, because prefixes
// differ. The names are those of the dashboards of Thanos.
var handlerPaths = [...][2]string{
	{"/api/v1/query", "query"},
	{"/api/v1/query_range", "query_range"},
	{"/api/v1/query_exemplars", "exemplars"},
	{"/api/v1/labels", "label_names"},
	{"/api/v1/series", "series"},
	{"/api/v1/stores", "stores"},
	{"/api/v1/alerts", "alerts"},
	{"/api/v1/rules", "rules"},
	{"/api/v1/targets", "targets"},
	{"/api/v1/metadata", "metadata"},
	{"/api/v1/read", "remote_read"},
	{"/api/v1/status/tsdb", "status_tsdb"},
	{"/api/v1/status/flags", "status_flags"},
	{"/api/v1/status/runtimeinfo", "status_runtime"},
	{"/api/v1/status/buildinfo", "status_build"},
	{"/api/v1/status/memory", "status_memory"},
	{"/api/v1/top_queries", "top_queries"},
	{"/api/v1/sizing", "sizing"},
	{"/federate", "federate"},
	{"/api/v1/receive", "receive"},
	{"/api/v1/write", "receive"},
	{"/api/v1/push", "receive"},
	{"/api/prom/push", "receive"},
	{"/api/v1/otlp", "otlp"},
	{"/otlp/v1/metrics", "otlp"},
	{"/api/v1/blocks", "blocks"},
	{"/api/v1/blocks/mark", "blocks_mark"},
	{"/api/v1/blocks/cardinality", "blocks_cardinality"},
	{"/api/v1/blocks/findings", "blocks_findings"},
	{"/metrics", "metrics"},
	{"/-/ready", "probe"},
	{"/-/healthy", "probe"},
	{"/ready", "probe"},
	{"/healthy", "probe"},
	{"/-/reload", "reload"},
}

// handlerName returns the name for a path, otherHandler for unknown ones.
func handlerName(path string) string {
	path = strings.TrimSuffix(path, "/")
	if strings.Contains(path, "/debug/pprof") {
		return "pprof"
	}
	if i := strings.LastIndex(path, "/api/v1/label/"); i >= 0 && strings.HasSuffix(path, "/values") {
		return "label_values"
	}
	name, length := otherHandler, 0
	for _, p := range handlerPaths {
		if len(p[0]) > length && strings.HasSuffix(path, p[0]) {
			name, length = p[1], len(p[0])
		}
	}
	return name
}

// handlerNames returns all values of the label.
func handlerNames() []string {
	out := []string{otherHandler, "pprof", "label_values"}
	for _, p := range handlerPaths {
		out = append(out, p[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// servedHandlers returns the names of the handlers that the mux of a component
// serves, and of those that every process has.
func servedHandlers(mux *http.ServeMux, prefix string) []string {
	out := []string{"metrics", "probe", "reload", "pprof", otherHandler}
	paths := append([][2]string{{"/api/v1/label/x/values", "label_values"}}, handlerPaths[:]...)
	for _, p := range paths {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r, err := http.NewRequest(method, prefix+p[0], http.NoBody)
			if err != nil {
				continue
			}
			if _, pattern := mux.Handler(r); pattern != "" && !strings.HasSuffix(pattern, " /") && pattern != "/" {
				out = append(out, p[1])
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
