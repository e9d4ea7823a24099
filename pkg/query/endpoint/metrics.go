package endpoint

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	endpoints      *prometheus.GaugeVec
	dnsLookups     prometheus.Counter
	dnsFailures    prometheus.Counter
	reloadFailures prometheus.Counter
	hedged         *prometheus.CounterVec
}

// Outcomes of second tries within an endpoint group.
const (
	// hedgeFirst: the first member answered first after all.
	hedgeFirst = "first_won"
	// hedgeSecond: the second one answered first, or instead of the first.
	hedgeSecond = "second_won"
	// hedgeFailed: both failed.
	hedgeFailed = "failed"
	// hedgeNoBudget: there was no second try because there were too many.
	hedgeNoBudget = "no_budget"
)

// newMetrics registers the metrics of endpoints and their discovery; reg may be nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		endpoints: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_query_endpoints",
			Help: "Stores that the querier expects, by component and health (up or missing).",
		}, []string{"component", "health"}),
		dnsLookups: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_query_endpoint_dns_lookups_total",
			Help: "Lookups of endpoint names, whether or not they failed.",
		}),
		dnsFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_query_endpoint_dns_failures_total",
			Help: "Lookups of endpoint names that failed; the addresses found before stay in use.",
		}),
		reloadFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_query_endpoint_reload_failures_total",
			Help: "Readings of endpoint files that failed; the content read before stays in use.",
		}),
		hedged: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_query_hedged_requests_total",
			Help: "Requests for series to endpoint groups that were, or would have been, sent to a second member because the first was slow or failed, by outcome (first_won, second_won, failed or no_budget).",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{hedgeFirst, hedgeSecond, hedgeFailed, hedgeNoBudget} {
		m.hedged.WithLabelValues(outcome)
	}
	return m
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
