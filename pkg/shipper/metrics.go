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

	mu        sync.Mutex
	corrupt   prometheus.Gauge
	corruptBy map[*Shipper]int
}

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
		corruptBy: map[*Shipper]int{},
	}
}

// setCorrupt sets the part of one shipper in the sum.
func (m *Metrics) setCorrupt(s *Shipper, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.corrupt.Add(float64(n - m.corruptBy[s]))
	m.corruptBy[s] = n
	if n == 0 {
		delete(m.corruptBy, s)
	}
}
