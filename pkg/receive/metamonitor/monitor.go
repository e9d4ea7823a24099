package metamonitor

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
)

// Interval is the time between two questions.
const Interval = 15 * time.Second

// Monitor knows how many series each tenant has, as of the last answer. What it
// does not know it does not guess: after a failure nothing is known. Its methods
// may be called concurrently.
type Monitor struct {
	logger  *slog.Logger
	metrics *metrics
	agent   string

	mu      sync.RWMutex
	source  *source          // nil asks nobody
	series  map[string]int64 // nil: not known
	failed  bool
	changed chan struct{}
}

type metrics struct {
	queries   *prometheus.CounterVec
	unchecked prometheus.Counter
}

// New returns a monitor that asks nobody yet.
func New(userAgent string, logger *slog.Logger, reg prometheus.Registerer) *Monitor {
	f := promauto.With(reg)
	return &Monitor{
		logger: logger, agent: userAgent, changed: make(chan struct{}, 1),
		metrics: &metrics{
			queries: f.NewCounterVec(prometheus.CounterOpts{
				Name: "hindsight_receive_meta_monitoring_queries_total",
				Help: "Queries for the number of series of tenants in the whole ring, by result.",
			}, []string{"result"}),
			unchecked: f.NewCounter(prometheus.CounterOpts{
				Name: "hindsight_receive_meta_monitoring_unchecked_total",
				Help: "Writes that went through because the number of series of their tenant in the whole ring was not known.",
			}),
		},
	}
}

// Set switches to another version of the limits. What was known stays known when
// the question is the same. It fails when the question is wrong, and then
// nothing changes.
func (m *Monitor) Set(c *tenantlimits.Config) error {
	var next *source
	if c.Meta != nil {
		meta := *c.Meta
		meta.Client.Logger = m.logger
		var err error
		if next, err = newSource(&meta, m.agent); err != nil {
			return err
		}
	}
	if !c.BoundsSeries() {
		next = nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.source == nil && next == nil:
		return nil
	case m.source != nil && next != nil && reflect.DeepEqual(m.source.meta, next.meta):
		return nil
	case m.source != nil:
		m.source.client.CloseIdleConnections()
	}
	m.source, m.series, m.failed = next, nil, false
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return nil
}

// Series is how many series the tenant has in the whole ring. It is not known
// for a tenant that the answer did not name, after a failure, and when nobody is
// asked.
func (m *Monitor) Series(tenant string) (n int64, known bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if n, known = m.series[tenant]; !known && m.source != nil {
		m.metrics.unchecked.Inc()
	}
	return n, known
}

// Run asks at once, then at intervals and whenever the question changes, until
// ctx is cancelled.
func (m *Monitor) Run(ctx context.Context) error {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		m.ask(ctx)
		select {
		case <-ctx.Done():
			m.end()
			return nil
		case <-ticker.C:
		case <-m.changed:
		}
	}
}

func (m *Monitor) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.source != nil {
		m.source.client.CloseIdleConnections()
	}
}

// ask gets an answer, which counts only when the question is still the same.
func (m *Monitor) ask(ctx context.Context) {
	m.mu.RLock()
	s := m.source
	m.mu.RUnlock()
	if s == nil {
		return
	}
	series, err := s.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.source != s {
		return
	}
	m.series = series
	if err != nil {
		m.metrics.queries.WithLabelValues("failure").Inc()
		if !m.failed {
			m.logger.Warn("the number of series in the whole ring is not known, so writes are not held to that limit", "err", err)
		}
		m.failed = true
		return
	}
	m.metrics.queries.WithLabelValues("success").Inc()
	if m.failed {
		m.logger.Info("the number of series in the whole ring is known again", "tenants", len(series))
	}
	m.failed = false
}
