package shipper

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the metrics of shippers; many shippers may share one.
type Metrics struct {
	syncs, syncFailures     prometheus.Counter
	uploads, uploadFailures prometheus.Counter
	skipped                 prometheus.Counter
	lastUpload              prometheus.Gauge

	corrupt, unshipped prometheus.Gauge

	mu sync.Mutex
	by map[*Shipper]counts
}

// counts is the part of one shipper in the gauges.
type counts struct{ corrupt, unshipped int }

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		syncs: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_syncs_total",
			Help: "Passes over a TSDB directory that ship its new blocks.",
		}),
		syncFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_sync_failures_total",
			Help: "Passes that did not ship all blocks that they should have shipped.",
		}),
		uploads: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_uploads_total",
			Help: "Blocks uploaded.",
		}),
		uploadFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_upload_failures_total",
			Help: "Failed uploads of blocks, which are repeated.",
		}),
		skipped: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_skipped_blocks_total",
			Help: "Blocks that are not shipped because they are empty or compacted, each counted once.",
		}),
		lastUpload: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_last_successful_upload_timestamp_seconds",
			Help: "Unix time of the last upload of a block.",
		}),
		corrupt: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_corrupted_blocks",
			Help: "Local blocks that are corrupt and therefore not shipped.",
		}),
		unshipped: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_unshipped_compacted_blocks",
			Help: "Local compacted blocks that are not shipped although not all their source blocks were: their data may be missing in the bucket.",
		}),
		by: map[*Shipper]counts{},
	}
}

// set replaces the part of one shipper in the gauges.
func (m *Metrics) set(s *Shipper, now counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.by[s]
	m.corrupt.Add(float64(now.corrupt - before.corrupt))
	m.unshipped.Add(float64(now.unshipped - before.unshipped))
	if m.by[s] = now; now == (counts{}) {
		delete(m.by, s)
	}
}
