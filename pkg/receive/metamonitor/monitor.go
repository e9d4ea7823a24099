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

// Interval is the time between two queries.
const Interval = 15 * time.Second

// Monitor holds the number of series of each tenant from the last answer. After a
// failed query no number is known. Its methods may be called concurrently.
type Monitor struct {
	logger  *slog.Logger
	metrics *metrics
	agent   string

	mu      sync.RWMutex
	source  *source          // nil disables queries
	series  map[string]int64 // nil: not known
	failed  bool
	changed chan struct{}
}

type metrics struct {
	queries   *prometheus.CounterVec
	unchecked prometheus.Counter
}

// New returns a monitor without a source.
func New(userAgent string, logger *slog.Logger, reg prometheus.Registerer) *Monitor {
	f := promauto.With(reg)
	m := &Monitor{
		logger: logger, agent: userAgent, changed: make(chan struct{}, 1),
		metrics: &metrics{
			queries: f.NewCounterVec(prometheus.CounterOpts{
				Name: "hindsight_receive_meta_monitoring_queries_total",
				Help: "Queries for the number of series of tenants in the whole ring, by result.",
			}, []string{"result"}),
			unchecked: f.NewCounter(prometheus.CounterOpts{
				Name: "hindsight_receive_meta_monitoring_unchecked_total",
				Help: "Writes that passed because the number of series of their tenant in the whole ring was unknown.",
			}),
		},
	}
	for _, result := range []string{"success", "failure"} {
		m.metrics.queries.WithLabelValues(result)
	}
	return m
}

// Set switches to another version of the limits. The numbers stay when the query is
// the same. It fails, and changes nothing, when the query is invalid.
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

// Series returns how many series the tenant has in the whole ring. The number is not
// known for tenants that are not in the answer, after a failed query, and without a
// source.
func (m *Monitor) Series(tenant string) (n int64, known bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if n, known = m.series[tenant]; !known && m.source != nil {
		m.metrics.unchecked.Inc()
	}
	return n, known
}

// Run queries at once, then at intervals and whenever the query changes, until ctx
// is cancelled.
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

// ask sends the query. The answer counts only when the query is still the same.
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
			m.logger.Warn("series in the whole ring unknown; limit not enforced", "err", err)
		}
		m.failed = true
		return
	}
	m.metrics.queries.WithLabelValues("success").Inc()
	if m.failed {
		m.logger.Info("series in the whole ring known again", "tenants", len(series))
	}
	m.failed = false
}
