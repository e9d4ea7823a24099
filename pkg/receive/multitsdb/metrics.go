package multitsdb

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

type metrics struct {
	stored         *prometheus.CounterVec
	rejected       *prometheus.CounterVec
	uploadFailures prometheus.Counter
	damaged        *prometheus.CounterVec

	renamed         *prometheus.CounterVec
	rejectedTenants prometheus.Counter
	pause           prometheus.Histogram
}

// newMetrics registers the metrics of all tenants' storage.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		stored: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_stored_total",
			Help: "Samples, histograms and exemplars stored on this node, by tenant.",
		}, []string{"tenant", "type"}),
		rejected: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_rejected_total",
			Help: "Items of writes that this node did not store, by tenant and reason.",
		}, []string{"tenant", "reason"}),
		renamed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_renamed_labels_total",
			Help: "New series with a label called like an external label, which is stored as exported_<name>, by tenant.",
		}, []string{"tenant"}),
		uploadFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_upload_failures_total",
			Help: "Failed attempts to upload the blocks of a tenant.",
		}),
		rejectedTenants: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_rejected_tenants_total",
			Help: "Writes and metadata of tenants that would have been new when the node was at its limit of tenants.",
		}),
		pause: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "hindsight_receive_compaction_pause_seconds",
			Help:    "Duration for which compactions kept the writes of a tenant waiting.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		damaged: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_damaged_total",
			Help: "Damaged records of write-ahead logs, and damaged blocks, that were moved to the directory damaged when a tenant was opened.",
		}, []string{"what"}),
	}
	for _, what := range []string{damagedRecord, damagedBlock} {
		m.damaged.WithLabelValues(what)
	}
	return m
}

// Values of the label "what" of damaged.
const (
	damagedRecord = "wal_record"
	damagedBlock  = "block"
)

func (m *metrics) forget(tenant string) {
	m.stored.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	m.rejected.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	m.renamed.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
}

// limitCollector collects the current limits of tenants.
type limitCollector struct {
	d      *DB
	series *prometheus.Desc
}

func newLimitCollector(d *DB) limitCollector {
	return limitCollector{d, prometheus.NewDesc("hindsight_receive_tenant_series_limit",
		"Limit of the active series of a tenant on this node, to compare with prometheus_tsdb_head_series; tenants without a limit are absent.",
		[]string{"tenant"}, nil)}
}

// Describe implements prometheus.Collector.
func (c limitCollector) Describe(out chan<- *prometheus.Desc) { out <- c.series }

// Collect implements prometheus.Collector.
func (c limitCollector) Collect(out chan<- prometheus.Metric) {
	for _, t := range c.d.all() {
		if n := t.limits().ActiveSeries; n > 0 {
			out <- prometheus.MustNewConstMetric(c.series, prometheus.GaugeValue, float64(n), t.id)
		}
	}
}

// observe counts what one write did.
func (t *tenantDB) observe(stored *remotewrite.Counts, rejected *remotewrite.Rejected) {
	t.rate.add(time.Now(), stored.Samples+stored.Histograms)
	for _, x := range []struct {
		name string
		n    int
	}{{"float", stored.Samples}, {"histogram", stored.Histograms}, {"exemplar", stored.Exemplars}} {
		if x.n > 0 {
			t.metrics.stored.WithLabelValues(t.id, x.name).Add(float64(x.n))
		}
	}
	rejected.Each(func(_ remotewrite.Kind, why reason.Reason, n int) {
		t.metrics.rejected.WithLabelValues(t.id, why.String()).Add(float64(n))
	})
}

// renamed counts a new series with a label that is stored under another name. It
// is logged once: a sender has the label on all its series, or on none.
func (t *tenantDB) renamed(name string, stored labels.Labels) {
	t.metrics.renamed.WithLabelValues(t.id).Inc()
	t.renamedOnce.Do(func() {
		t.logger.Warn("series label renamed: an external label has its name", "label", name, "label_set", stored.String())
	})
}

// meter measures a rate over the last full ten seconds.
type meter struct {
	mu      sync.Mutex
	slot    int64
	current int
	last    int
}

const meterSlot = 10

func (m *meter) advance(now time.Time) {
	slot := now.Unix() / meterSlot
	switch {
	case slot == m.slot+1:
		m.slot, m.last, m.current = slot, m.current, 0
	case slot != m.slot:
		m.slot, m.last, m.current = slot, 0, 0
	}
}

func (m *meter) add(now time.Time, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	m.current += n
}

func (m *meter) perSecond(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	return float64(m.last) / meterSlot
}

// tenantRegisterer gives the metrics of one TSDB the label tenant, and takes
// them all back when it is closed.
type tenantRegisterer struct {
	prometheus.Registerer
	mu  sync.Mutex
	all []prometheus.Collector
}

func newTenantRegisterer(reg prometheus.Registerer, tenant string) *tenantRegisterer {
	if reg == nil {
		return &tenantRegisterer{}
	}
	return &tenantRegisterer{Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"tenant": tenant}, reg)}
}

// orNil is nil when there is nowhere to register.
func (r *tenantRegisterer) orNil() prometheus.Registerer {
	if r.Registerer == nil {
		return nil
	}
	return r
}

func (r *tenantRegisterer) Register(c prometheus.Collector) error {
	if err := r.Registerer.Register(c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, c)
	return nil
}

func (r *tenantRegisterer) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

func (r *tenantRegisterer) unregisterAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		r.Unregister(c)
	}
	r.all = nil
}
