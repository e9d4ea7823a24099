package promapi

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	federateErrors *prometheus.CounterVec
	federateSeries prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		federateErrors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_query_federate_failures_total",
			Help: "Requests to /federate that failed, by reason.",
		}, []string{"reason"}),
		federateSeries: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "hindsight_query_federate_series",
			Help:    "Series in an answer of /federate.",
			Buckets: prometheus.ExponentialBuckets(1, 10, 7),
		}),
	}
}
