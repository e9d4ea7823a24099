package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
)

type metrics struct {
	syncFailures     prometheus.Counter
	lastSync         prometheus.Gauge
	syncDuration     prometheus.Histogram
	blockFailures    *prometheus.CounterVec
	requests         *prometheus.CounterVec
	limited          prometheus.Counter
	gateWait         prometheus.Histogram
	blocksPerRequest prometheus.Histogram
	seriesPerRequest prometheus.Histogram
	touched, fetched *prometheus.CounterVec
}

// newMetrics registers the metrics of the gateway; reg may be nil.
func newMetrics(reg prometheus.Registerer, g *Gateway) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, read func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	gauge("hindsight_store_blocks_loaded", "Blocks that are served.", func() float64 {
		g.mu.RLock()
		defer g.mu.RUnlock()
		return float64(len(g.blocks.byID))
	})
	gauge("hindsight_store_blocks_quarantined", "Blocks that are not read because their index is damaged.", func() float64 {
		return float64(len(g.damage.current(time.Now())))
	})
	gauge("hindsight_store_request_bytes", "Bytes of blocks that running requests hold in memory.", func() float64 {
		return float64(g.budget.Used())
	})
	gauge("hindsight_store_large_requests", "Large requests that are admitted: see --store.large-requests.", func() float64 {
		taken, _ := g.admission.counts()
		return float64(taken)
	})
	gauge("hindsight_store_large_requests_waiting", "Large requests that wait for others.", func() float64 {
		_, waiting := g.admission.counts()
		return float64(waiting)
	})
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "hindsight_store_large_requests_refused_total",
		Help: "Large requests that failed because others did not end within --store.large-request-wait, or because too many waited.",
	}, func() float64 { return float64(g.admission.refused.Load()) })
	objectMetrics(f, g)
	counterVec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	powers := func(first float64, n int) []float64 { return prometheus.ExponentialBuckets(first, 2, n) }
	m := &metrics{
		syncFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_sync_failures_total",
			Help: "Listings of the bucket that failed.",
		}),
		lastSync: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_store_last_sync_timestamp_seconds",
			Help: "Unix time of the last successful listing of the bucket.",
		}),
		syncDuration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "hindsight_store_sync_duration_seconds", Buckets: powers(0.01, 15),
			Help: "Time to list the bucket and to open new blocks.",
		}),
		blockFailures: counterVec("hindsight_store_block_failures_total",
			"Failed reads of a part of a block, by part and reason.", "part", "reason"),
		requests: counterVec("hindsight_store_requests_total", "Requests answered, by operation.", "operation"),
		limited: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_requests_limited_total",
			Help: "Requests that failed because they exceed a limit.",
		}),
		gateWait: f.NewHistogram(prometheus.HistogramOpts{
			Name: "hindsight_store_gate_duration_seconds", Buckets: powers(0.001, 17),
			Help: "Time that requests waited for one of --store.grpc.series-max-concurrency slots.",
		}),
		blocksPerRequest: f.NewHistogram(prometheus.HistogramOpts{
			Name: "hindsight_store_request_blocks", Buckets: powers(1, 14),
			Help: "Blocks that a request for series touched.",
		}),
		seriesPerRequest: f.NewHistogram(prometheus.HistogramOpts{
			Name: "hindsight_store_request_series", Buckets: powers(1, 22),
			Help: "Series that a request returned.",
		}),
		touched: counterVec("hindsight_store_data_touched_total", "Items of blocks that requests needed.", "data"),
		fetched: counterVec("hindsight_store_data_fetches_total", "Range reads for items of blocks.", "data"),
	}
	m.initialize()
	return m
}

// objectMetrics counts the reading of columns objects.
func objectMetrics(f promauto.Factory, g *Gateway) {
	counter := func(name, help string, read func() int64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(read()) })
	}
	counter("hindsight_store_columns_object_reads_total", "Reads of blocks that their columns objects answered, for few series.",
		func() int64 { return g.env.ObjectReads.Load() })
	counter("hindsight_store_columns_object_failures_total", "Reads of columns objects that failed, so that the blocks were read instead.",
		func() int64 { return g.env.ObjectFailures.Load() })
}

// Values of the label "operation" of requests, and of the label "data".
const (
	opSelect      = "select"
	opLabelNames  = "label_names"
	opLabelValues = "label_values"

	dataPostings = "postings"
	dataSeries   = "series"
	dataChunks   = "chunks"
)

// initialize makes the series of all label values: rate() misses the first event of a series
// that appears with it.
func (m *metrics) initialize() {
	for _, part := range [...]string{
		bucketblock.PartHeader, bucketblock.PartIndex, bucketblock.PartPostings, bucketblock.PartSeries, bucketblock.PartChunks,
	} {
		for _, why := range [...]reason.Reason{reason.BlockUnreadable, reason.BlockDamaged} {
			m.blockFailures.WithLabelValues(part, why.String())
		}
	}
	for _, op := range [...]string{opSelect, opLabelNames, opLabelValues} {
		m.requests.WithLabelValues(op)
	}
	for _, data := range [...]string{dataPostings, dataSeries, dataChunks} {
		m.touched.WithLabelValues(data)
		m.fetched.WithLabelValues(data)
	}
}
