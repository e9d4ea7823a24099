package shipper

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics count what shippers do. One may serve many shippers.
type Metrics struct {
	syncs, syncFailures     prometheus.Counter
	uploads, uploadFailures prometheus.Counter
	skipped                 prometheus.Counter
	lastUpload              prometheus.Gauge

	corrupt, unshipped prometheus.Gauge

	mu sync.Mutex
	by map[*Shipper]counts
}

// counts are one shipper's part in the gauges.
type counts struct{ corrupt, unshipped int }

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		syncs: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_syncs_total",
			Help: "Passes over a TSDB directory to ship its new blocks.",
		}),
		syncFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_sync_failures_total",
			Help: "Passes after which a block was left that should have been shipped.",
		}),
		uploads: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_uploads_total",
			Help: "Blocks uploaded.",
		}),
		uploadFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_upload_failures_total",
			Help: "Uploads of blocks that failed and will be repeated.",
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
			Help: "Local blocks that are broken and therefore cannot be shipped.",
		}),
		unshipped: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_unshipped_compacted_blocks",
			Help: "Local compacted blocks that are not shipped although not all blocks that they were made of were: their data may be missing in the bucket.",
		}),
		by: map[*Shipper]counts{},
	}
}

// set replaces the part of one shipper in the sums.
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
