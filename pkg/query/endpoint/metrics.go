package endpoint

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	endpoints      *prometheus.GaugeVec
	dnsFailures    prometheus.Counter
	reloadFailures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		endpoints: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_query_endpoints",
			Help: "Stores that the querier expects, by component and health (up or missing).",
		}, []string{"component", "health"}),
		dnsFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_query_endpoint_dns_failures_total",
			Help: "Lookups of endpoint names that failed; the addresses found before stay in use.",
		}),
		reloadFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_query_endpoint_reload_failures_total",
			Help: "Readings of endpoint files that failed; the content read before stays in use.",
		}),
	}
}

func (m *metrics) observe(all []*Endpoint) {
	m.endpoints.Reset()
	for _, e := range all {
		st := e.Status()
		health := "missing"
		if st.Up {
			health = "up"
		}
		component := st.Info.Component
		if component == "" {
			component = "unknown"
		}
		m.endpoints.WithLabelValues(component, health).Inc()
	}
}
