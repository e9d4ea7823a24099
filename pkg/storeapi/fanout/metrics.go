package fanout

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	failures   prometheus.Counter
	unsorted   prometheus.Counter
	mislabeled prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_fanout_store_failures_total",
			Help: "Answers of stores that failed, at their start or in their middle.",
		}),
		unsorted: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_fanout_unsorted_stores_total",
			Help: "Stores that were seen to stream series out of order.",
		}),
		mislabeled: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_fanout_mislabeled_stores_total",
			Help: "Stores that were seen to send series without the labels that they announce.",
		}),
	}
}
