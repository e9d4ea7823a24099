package outage

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the metrics of a Reader.
type Metrics struct {
	conversions prometheus.Counter
	failures    prometheus.Counter
	duration    prometheus.Gauge
}

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		conversions: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_sidecar_head_conversions_total",
			Help: "Attempts to read the head of Prometheus from its logs while Prometheus does not answer.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_sidecar_head_conversions_failed_total",
			Help: "Attempts to read the head of Prometheus from its logs that failed.",
		}),
		duration: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_head_conversion_duration_seconds",
			Help: "Time that the last attempt to read the head of Prometheus from its logs took.",
		}),
	}
}

func (m *Metrics) observe(d time.Duration, err error) {
	m.conversions.Inc()
	m.duration.Set(d.Seconds())
	if err != nil {
		m.failures.Inc()
	}
}
