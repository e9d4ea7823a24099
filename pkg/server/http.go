package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// state is what the probes and the drain gate look at.
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
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
			return
		}
		defer s.leave()
		next.ServeHTTP(w, r)
	})
}

// handler joins the component's handlers with those that every process has.
func handler(s *state, api http.Handler, reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.gate(api))
	mux.HandleFunc("/-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "OK")
	})
	mux.HandleFunc("/-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.readiness(); err != nil {
			http.Error(w, "NOT OK: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "OK")
	})
	mux.Handle("/metrics", promhttp.InstrumentMetricHandler(reg, promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		Registry:          reg,
	})))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", commandLine)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// commandLine writes the command line as pprof does, without secrets.
func commandLine(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, strings.Join(flags.RedactArgs(os.Args), "\x00"))
}

type httpServer struct {
	srv    *http.Server
	lis    net.Listener
	config web.FlagConfig
	logger *slog.Logger
	failed chan error
}

func listenHTTP(c Config, h http.Handler, logger *slog.Logger) (*httpServer, error) {
	lis, err := net.Listen("tcp", c.HTTPAddress)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP on --http-address %s: %w", c.HTTPAddress, err)
	}
	logger.Info("listening for HTTP", "address", lis.Addr().String())
	return &httpServer{
		srv: &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second},
		lis: lis,
		config: web.FlagConfig{
			WebConfigFile: &c.HTTPConfigFile,
		},
		logger: logger,
		failed: make(chan error, 1),
	}, nil
}

// serve runs until stop; a failure is sent to failed.
func (s *httpServer) serve() {
	// The toolkit announces TLS at info on each start; the address line above
	// is enough.
	quiet := slog.New(levelAbove{s.logger.Handler(), slog.LevelWarn})
	if err := web.Serve(s.lis, s.srv, &s.config, quiet); err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.failed <- fmt.Errorf("serve HTTP on %s: %w", s.lis.Addr(), err)
	}
	close(s.failed)
}

func (s *httpServer) stop(ctx context.Context) {
	if err := s.srv.Shutdown(ctx); err != nil {
		_ = s.srv.Close()
	}
}

// levelAbove drops records below min.
type levelAbove struct {
	slog.Handler
	min slog.Level
}

func (l levelAbove) Enabled(ctx context.Context, lv slog.Level) bool {
	return lv >= l.min && l.Handler.Enabled(ctx, lv)
}
