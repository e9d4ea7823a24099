// Package promtest serves the real HTTP API and remote read of Prometheus over
// a real TSDB, in the test's process.
package promtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"github.com/stretchr/testify/require"
)

// Options shape the server. The zero value is an ordinary Prometheus without
// external labels.
type Options struct {
	ExternalLabels labels.Labels
	// Flags are shown by the flags API.
	Flags map[string]string
	// PathPrefix is put before every path, like an external URL with a path.
	PathPrefix string
	// BlockDuration is the length of a block in milliseconds; two hours if 0.
	BlockDuration int64
	// OutOfOrderWindow is how far back samples may come, in milliseconds.
	OutOfOrderWindow int64
	// XOR2 writes the newest float chunks.
	XOR2 bool
	// MaxBytesInFrame bounds frames of remote read; 1 MiB if 0.
	MaxBytesInFrame int
	// Wrap decorates the whole handler, for faults and authorization.
	Wrap func(http.Handler) http.Handler
}

// Server is one Prometheus.
type Server struct {
	DB  *tsdb.DB
	Dir string

	url      *url.URL
	window   int64
	external atomic.Pointer[labels.Labels]
	down     atomic.Bool
	reloads  atomic.Int64
	reads    atomic.Int64
	close    func()
}

// New opens a database in a temporary directory and serves it until the test
// ends.
func New(tb testing.TB, o Options) *Server {
	tb.Helper()
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = math.MaxInt64 / 2
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 1000
	opts.StripeSize = 64
	opts.OutOfOrderTimeWindow = o.OutOfOrderWindow
	if o.BlockDuration > 0 {
		opts.MinBlockDuration, opts.MaxBlockDuration = o.BlockDuration, o.BlockDuration
	}
	if o.XOR2 {
		opts.FloatChunkEncoding = chunkenc.EncXOR2
	}
	s := &Server{Dir: tb.TempDir(), window: o.OutOfOrderWindow}
	reg := prometheus.NewRegistry()
	db, err := tsdb.Open(s.Dir, slog.New(slog.DiscardHandler), reg, opts, nil)
	require.NoError(tb, err)
	db.DisableCompactions()
	s.DB = db
	s.SetExternalLabels(o.ExternalLabels)

	handler := s.handler(o, reg)
	if o.Wrap != nil {
		handler = o.Wrap(handler)
	}
	hs := httptest.NewServer(handler)
	s.close = sync.OnceFunc(func() {
		hs.Close()
		require.NoError(tb, db.Close())
	})
	tb.Cleanup(s.close)
	s.url, err = url.Parse(hs.URL + o.PathPrefix)
	require.NoError(tb, err)
	return s
}

// Close stops the server before the end of the test.
func (s *Server) Close() { s.close() }

// URL is the base URL, with the path prefix.
func (s *Server) URL() *url.URL { return s.url }

// SetExternalLabels changes the configuration, as a reload would.
func (s *Server) SetExternalLabels(ls labels.Labels) { s.external.Store(&ls) }

// SetDown makes every request fail like a server that still starts.
func (s *Server) SetDown(down bool) { s.down.Store(down) }

// Reloads counts POST /-/reload.
func (s *Server) Reloads() int64 { return s.reloads.Load() }

// Reads counts remote reads.
func (s *Server) Reads() int64 { return s.reads.Load() }

func (s *Server) config() config.Config {
	cfg := config.DefaultConfig
	cfg.GlobalConfig.ExternalLabels = *s.external.Load()
	cfg.StorageConfig.TSDBConfig = &config.TSDBConfig{OutOfOrderTimeWindowFlag: model.Duration(time.Duration(s.window) * time.Millisecond)}
	return cfg
}

// handler serves the API of Prometheus, its metrics and the reload.
func (s *Server) handler(o Options, reg *prometheus.Registry) http.Handler {
	if o.MaxBytesInFrame == 0 {
		o.MaxBytesInFrame = 1 << 20
	}
	ready := func(f http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if s.down.Load() {
				http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
				return
			}
			f(w, r)
		}
	}

	api := v1.NewAPI(nil, s.DB, nil, s.DB,
		func(context.Context) v1.ScrapePoolsRetriever { return nil },
		func(context.Context) v1.TargetRetriever { return noTargets{} },
		func(context.Context) v1.AlertmanagerRetriever { return nil },
		s.config, o.Flags, v1.GlobalURLOptions{}, ready, admin{s.DB}, s.Dir, false, false, 0,
		slog.New(slog.DiscardHandler),
		func(context.Context) v1.RulesRetriever { return noRules{} },
		0, 10, o.MaxBytesInFrame, false, nil,
		func() (v1.RuntimeInfo, error) { return v1.RuntimeInfo{}, nil },
		&v1.PrometheusVersion{Version: "3.14.0"}, nil, nil,
		prometheus.NewRegistry(), nil, nil, false, nil, false, false, false,
		5*time.Minute, false, false, nil, nil, v1.OpenAPIOptions{}, parser.NewParser(parser.Options{}), false, 0)

	router := route.New()
	api.Register(router.WithPrefix("/api/v1"))
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "prometheus_tsdb_lowest_timestamp_seconds"}, s.lowest)
	router.Get("/metrics", ready(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP))
	router.Post("/-/reload", func(http.ResponseWriter, *http.Request) { s.reloads.Add(1) })
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/read" {
			s.reads.Add(1)
		}
		router.ServeHTTP(w, r)
	})
	return http.StripPrefix(o.PathPrefix, counted)
}

func (s *Server) lowest() float64 {
	if blocks := s.DB.Blocks(); len(blocks) > 0 {
		return float64(blocks[0].Meta().MinTime / 1000)
	}
	return float64(s.DB.Head().MinTime() / 1000)
}

// Append writes samples of one series: values at start, start+step, …
func (s *Server) Append(tb testing.TB, lset labels.Labels, start, step int64, values ...float64) {
	tb.Helper()
	s.Write(tb, func(app storage.Appender) error {
		for i, v := range values {
			if _, err := app.Append(0, lset, start+int64(i)*step, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// CutBlock persists what the head has between two times, the second exclusive,
// and truncates the head to it.
func (s *Server) CutBlock(tb testing.TB, mint, maxt int64) {
	tb.Helper()
	require.NoError(tb, s.DB.CompactHead(tsdb.NewRangeHead(s.DB.Head(), mint, maxt-1)))
}

// Write appends in one transaction.
func (s *Server) Write(tb testing.TB, f func(app storage.Appender) error) {
	tb.Helper()
	app := s.DB.Appender(tb.Context())
	require.NoError(tb, f(app))
	require.NoError(tb, app.Commit())
}

// admin is the database as the status API takes it.
type admin struct{ *tsdb.DB }

func (a admin) Stats(string, int) (*tsdb.Stats, error) { return nil, errors.New("no statistics") }
func (a admin) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return tsdb.WALReplayStatus{}, nil
}

func (a admin) BlockMetas() ([]tsdb.BlockMeta, error) {
	var metas []tsdb.BlockMeta
	for _, b := range a.Blocks() {
		metas = append(metas, b.Meta())
	}
	return metas, nil
}

type noRules struct{}

func (noRules) RuleGroups() []*rules.Group           { return nil }
func (noRules) AlertingRules() []*rules.AlertingRule { return nil }

type noTargets struct{}

func (noTargets) TargetsActive() map[string][]*scrape.Target  { return nil }
func (noTargets) TargetsDropped() map[string][]*scrape.Target { return nil }
func (noTargets) TargetsDroppedCounts() map[string]int        { return nil }
func (noTargets) ScrapePoolConfig(string) (*config.ScrapeConfig, error) {
	return nil, fmt.Errorf("no scrape pools")
}
