package shipper

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Metrics are the metrics of shippers; many shippers may share one.
type Metrics struct {
	syncs, syncFailures     prometheus.Counter
	uploads, uploadFailures prometheus.Counter
	columnsFailures         prometheus.Counter
	uploadedBytes           prometheus.Counter
	skipped, reshipped      prometheus.Counter
	corruptTotal            *prometheus.CounterVec
	lastUpload              prometheus.Gauge

	corrupt, unshipped, overlapping      prometheus.Gauge
	pendingBlocks, pendingBytes, sinceAt prometheus.Gauge

	mu sync.Mutex
	// by has the part of each directory that is not zero.
	by    map[string]counts
	since int64 // the least of by; 0 is none
}

// counts is the part of one directory in the gauges.
type counts struct {
	corrupt, unshipped, overlapping, blocks int
	bytes                                   int64
	// since is the time of the oldest sample that should be in the bucket and is not,
	// in milliseconds; 0 when there is none.
	since int64
}

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
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
		uploadedBytes: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_uploaded_bytes_total",
			Help: "Bytes of the blocks that were uploaded, with their columns objects.",
		}),
		columnsFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_columns_failures_total",
			Help: "Columns objects that could not be written or uploaded; their blocks are shipped without them.",
		}),
		reshipped: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_shipper_reshipped_blocks_total",
			Help: "Shipped blocks that vanished from the bucket or were damaged there, and are shipped again.",
		}),
		corruptTotal: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_shipper_corrupted_blocks_total",
			Help: "Local blocks that were found corrupt or unreadable, each counted once.",
		}, []string{"reason"}),
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
		overlapping: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_overlapping_blocks",
			Help: "Local compacted blocks that are not shipped because they overlap with blocks of the bucket.",
		}),
		pendingBlocks: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_pending_blocks",
			Help: "Local blocks that still have to be shipped.",
		}),
		pendingBytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_pending_bytes",
			Help: "Bytes of the local blocks that still have to be shipped.",
		}),
		sinceAt: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_shipper_unshipped_since_timestamp_seconds",
			Help: "Unix time of the oldest sample that is in a local block and should be in the bucket but is not; 0 when there is none.",
		}),
		by: map[string]counts{},
	}
	// increase() misses the first block of a series that appears with it.
	for _, why := range [...]reason.Reason{
		reason.BlockMetaMalformed, reason.BlockMetaVersion, reason.BlockMetaForeign, reason.BlockIndexCorrupt,
		reason.BlockSeriesOutOfOrder, reason.BlockChunkCorrupt, reason.BlockChunkTimes, reason.BlockSegmentCorrupt,
		reason.BlockSizeMismatch, reason.BlockHashMismatch, reason.BlockUnreadable,
	} {
		m.corruptTotal.WithLabelValues(why.String())
	}
	return m
}

// set replaces the part of one directory in the gauges.
func (m *Metrics) set(dir string, now counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.by[dir]
	m.corrupt.Add(float64(now.corrupt - before.corrupt))
	m.unshipped.Add(float64(now.unshipped - before.unshipped))
	m.overlapping.Add(float64(now.overlapping - before.overlapping))
	m.pendingBlocks.Add(float64(now.blocks - before.blocks))
	m.pendingBytes.Add(float64(now.bytes - before.bytes))
	if m.by[dir] = now; now == (counts{}) {
		delete(m.by, dir)
	}
	switch {
	case now.since != 0 && (m.since == 0 || now.since <= m.since):
		m.since = now.since
	case before.since == m.since && before.since != now.since:
		m.since = 0
		for _, c := range m.by {
			if c.since != 0 && (m.since == 0 || c.since < m.since) {
				m.since = c.since
			}
		}
	}
	m.sinceAt.Set(float64(m.since) / 1000)
}
