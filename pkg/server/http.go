package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpserver"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/requestlog"
	"github.com/hindsight-io/hindsight/pkg/webconfig"
)

// state holds the readiness and the number of requests in flight.
type state struct {
	stopping atomic.Bool
	ready    func() error

	mu       sync.Mutex
	inFlight int
	idle     chan struct{} // closed when stopping and nothing is in flight
}

func newState(ready func() error) *state {
	return &state{ready: ready, idle: make(chan struct{})}
}

func (s *state) readiness() error {
	if s.stopping.Load() {
		return errStopping
	}
	return s.ready()
}

// enter counts a request of the component's API; false while stopping.
func (s *state) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.inFlight++
	return true
}

func (s *state) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if s.inFlight == 0 && s.stopping.Load() {
		close(s.idle)
	}
}

// drain refuses new requests and waits for those in flight, at most grace.
func (s *state) drain(grace time.Duration) {
	s.mu.Lock()
	s.stopping.Store(true)
	idle := s.inFlight == 0
	s.mu.Unlock()
	if idle {
		return
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-s.idle:
	case <-t.C:
	}
}

// gate lets API requests through until the stop begins.
func (s *state) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "5")
			errorid.Answer(w, http.StatusServiceUnavailable, errorid.ShuttingDown, "shutting down")
			return
		}
		defer s.leave()
		next.ServeHTTP(w, r)
	})
}

// site holds the parts of the HTTP side of a process.
type site struct {
	state *state
	api   *http.ServeMux // of the component
	reg   *prometheus.Registry
	// gatherer is what the metrics page shows.
	gatherer prometheus.Gatherer
	reloads  *reloads
	web      *webconfig.File
	limits   httpserver.Limits
	// profiling is whether the pages of pprof are among the others.
	profiling bool
	log       *requestlog.Log
	tracer    trace.TracerProvider // nil records no spans
	// measure is the middleware of instrument.
	measure func(next http.Handler, served []string) http.Handler
}

// handler joins the component's handlers with those of every process, behind the
// checks of every request.
func (s site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.state.gate(s.api))
	for _, path := range []string{"/-/healthy", "/healthy"} {
		mux.Handle(path, reading(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "OK")
		})))
	}
	for _, path := range []string{"/-/ready", "/ready"} {
		mux.Handle(path, reading(http.HandlerFunc(s.ready)))
	}
	mux.Handle("/-/reload", s.reloads)
	mux.Handle(errorid.Path+"{id}", reading(http.HandlerFunc(errorid.Serve)))
	mux.Handle("/metrics", reading(promhttp.InstrumentMetricHandler(s.reg, promhttp.HandlerFor(s.gatherer, promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		Registry:            s.reg,
		MaxRequestsInFlight: maxScrapes,
	}))))
	if s.profiling {
		registerDebug(mux)
	} else {
		// Not the component's: its page answers paths that nothing else does.
		mux.Handle("/debug/pprof/", http.NotFoundHandler())
	}
	h := s.limits.Forms(httpserver.SameOrigin(mux, readsOnly))
	return s.traced(s.measure(requestid.Handler(s.noteStatus(s.log.HTTP(s.log.Audit(errorid.Handler(s.web.Guard(h)))))), servedHandlers(s.api, "")))
}

// middleware measures and logs the requests of a listener of the component.
func (s site) middleware(mux *http.ServeMux, next http.Handler) http.Handler {
	return s.traced(s.measure(requestid.Handler(s.noteStatus(s.log.HTTP(errorid.Handler(next)))), servedHandlers(mux, "")))
}

// maxScrapes bounds the scrapes that run at the same time.
const maxScrapes = 40

func (s site) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.state.readiness(); err != nil {
		errorid.Answer(w, http.StatusServiceUnavailable, errorid.Of(err), "NOT OK: "+flags.RedactText(err.Error()))
		return
	}
	fmt.Fprintln(w, "OK")
}

// readsOnly reports whether a request with POST only reads: pages of other origins
// may use the query API, unless --web.disable-cors is set.
func readsOnly(r *http.Request) bool {
	if r.Method != http.MethodPost {
		return false
	}
	switch handlerName(r.URL.Path) {
	case "query", "query_range", "exemplars", "label_names", "series", "remote_read":
		return true
	}
	return strings.HasSuffix(r.URL.Path, "/api/v1/format_query") || strings.HasSuffix(r.URL.Path, "/api/v1/parse_query")
}

type httpServer struct {
	srv    *httpserver.Server
	failed chan error
}

// listenHTTP opens the listener of the API and the pages, and that of the profiling
// pages; the second one is nil without an address of its own.
func listenHTTP(c Config, s site, logger *slog.Logger) (pages, profiling *httpServer, err error) {
	lis, err := httpserver.Listen("HTTP", "--http-address", c.HTTPAddress)
	if err != nil {
		return nil, nil, err
	}
	logger.Info("listening for HTTP", "address", lis.Addr().String(), "tls", s.web.TLS() != nil)
	pages = s.server(lis, s.handler(), logger)
	if c.HTTPProfilingAddress == "" {
		return pages, nil, nil
	}
	if lis, err = httpserver.Listen("profiling", "--http.profiling-address", c.HTTPProfilingAddress); err != nil {
		pages.srv.Close()
		return nil, nil, err
	}
	logger.Info("listening for profiling", "address", lis.Addr().String(), "tls", s.web.TLS() != nil)
	return pages, s.server(lis, s.profilingHandler(), logger), nil
}

// server makes the server of a handler, with the limits and the TLS of the site.
func (s site) server(lis net.Listener, h http.Handler, logger *slog.Logger) *httpServer {
	return &httpServer{srv: httpserver.New(lis, h, s.limits, s.web.TLS(), logger), failed: make(chan error, 1)}
}

// serve runs until stop; a failure is sent to failed.
func (s *httpServer) serve() {
	if err := s.srv.Serve(); err != nil {
		s.failed <- fmt.Errorf("serve HTTP on %s: %w", s.srv.Addr(), err)
	}
	close(s.failed)
}

// stop closes the server when its requests have ended or ctx is done. A nil server is
// not there.
func (s *httpServer) stop(ctx context.Context) {
	if s == nil {
		return
	}
	if err := s.srv.HTTP().Shutdown(ctx); err != nil {
		_ = s.srv.HTTP().Close()
	}
}
