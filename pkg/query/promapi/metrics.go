package promapi

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

type metrics struct {
	federateErrors *prometheus.CounterVec
	federateSeries prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
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
	for _, why := range [...]reason.Reason{reason.FederateInvalid, reason.FederateLimit, reason.FederateEncode, reason.FederateSend, reason.Storage} {
		m.federateErrors.WithLabelValues(why.String())
	}
	return m
}
