package blocklist

import (
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	polls, failures, reads prometheus.Counter
	duration               prometheus.Histogram
	lastSuccess            prometheus.Gauge
	blocks                 prometheus.Gauge
	partial, dropped       *prometheus.GaugeVec
	marks                  *prometheus.GaugeVec
	badMarks               prometheus.Gauge
}

// newMetrics registers the metrics of a poller; reg may be nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		polls: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_blocklist_polls_total",
			Help: "Listings of the bucket with the reads that follow from them.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_blocklist_poll_failures_total",
			Help: "Polls of the bucket that failed; the result of the last successful one stays in use.",
		}),
		reads: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_blocklist_reads_total",
			Help: "Objects (meta.json and marks) read because they were new or had changed.",
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "hindsight_blocklist_poll_duration_seconds",
			Help:    "Duration of successful polls of the bucket.",
			Buckets: []float64{0.01, 0.1, 1, 10, 60, 300, 900},
		}),
		lastSuccess: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_blocklist_last_successful_poll_timestamp_seconds",
			Help: "Unix time of the last successful poll of the bucket.",
		}),
		blocks: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_blocklist_blocks",
			Help: "Complete blocks in the bucket that passed all filters.",
		}),
		partial: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_blocklist_partial_blocks",
			Help: "Blocks in the bucket that cannot be used, by reason.",
		}, []string{"reason"}),
		dropped: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_blocklist_dropped_blocks",
			Help: "Complete blocks in the bucket that a filter excludes, by filter.",
		}, []string{"filter"}),
		marks: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_blocklist_marked_blocks",
			Help: "Blocks in the bucket with a mark, by kind.",
		}, []string{"mark"}),
		badMarks: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_blocklist_unreadable_marks",
			Help: "Marks in the bucket that cannot be read. Such a deletion mark is ignored; the others are obeyed.",
		}),
	}
}

// describe sets the gauges.
func (m *metrics) describe(v *View, dropped map[ulid.ULID]string) {
	m.blocks.Set(float64(len(v.Metas)))
	m.badMarks.Set(float64(v.BadMarks))
	m.marks.WithLabelValues("deletion").Set(float64(len(v.Deletion)))
	m.marks.WithLabelValues("no_compact").Set(float64(len(v.NoCompact)))
	m.marks.WithLabelValues("no_downsample").Set(float64(len(v.NoDownsample)))
	m.partial.Reset()
	for _, bad := range []map[ulid.ULID]Partial{v.Partial, v.Unusable} {
		for _, p := range bad {
			m.partial.WithLabelValues(p.Reason.String()).Inc()
		}
	}
	m.dropped.Reset()
	for _, name := range dropped {
		m.dropped.WithLabelValues(name).Inc()
	}
}
