package compact

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

type metrics struct {
	passes, failedPasses       prometheus.Counter
	started, completed, failed *prometheus.CounterVec
	duration                   *prometheus.HistogramVec
	samples                    *prometheus.CounterVec
	marked, panics             *prometheus.CounterVec
	mismatches                 *prometheus.CounterVec
	quarantined, skipped       *prometheus.GaugeVec
	skippedBlock               *prometheus.GaugeVec
	todoJobs, todoBlocks       *prometheus.GaugeVec
	todoSamples                *prometheus.GaugeVec
	lastPass                   prometheus.Gauge
	deletionsOpen              prometheus.Gauge
}

// newMetrics registers the metrics of a compactor; reg may be nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "hindsight_compact_" + name, Help: help}, labels)
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "hindsight_compact_" + name, Help: help}, labels)
	}
	m := &metrics{
		passes:       f.NewCounter(prometheus.CounterOpts{Name: "hindsight_compact_passes_total", Help: "Passes started."}),
		failedPasses: f.NewCounter(prometheus.CounterOpts{Name: "hindsight_compact_passes_failed_total", Help: "Passes with an error or a failed job."}),
		started:      counters("jobs_started_total", "Jobs started, by kind and by resolution of the result.", "kind", "resolution"),
		completed:    counters("jobs_completed_total", "Jobs completed.", "kind", "resolution"),
		failed:       counters("jobs_failed_total", "Jobs that failed.", "kind", "resolution"),
		samples:      counters("samples_total", "Samples in the inputs of completed jobs. todo_samples divided by its rate estimates the time to completion.", "kind"),
		marked:       counters("blocks_marked_total", "Marks written.", "marker", "reason"),
		panics:       counters("job_panics_total", "Jobs that ended in a panic; their inputs are quarantined.", "kind"),
		mismatches:   counters("verification_failures_total", "Jobs whose result differed from its sources, or in the bucket from what was uploaded; it was not published.", "kind"),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hindsight_compact_job_duration_seconds", Help: "Duration of jobs.", Buckets: prometheus.ExponentialBuckets(0.1, 4, 10),
		}, []string{"kind"}),
		quarantined:  gauges("block_quarantined", "1 for each block that no job takes for 15 minutes to 24 hours after a failure, by reason.", "block", "reason"),
		skipped:      gauges("blocks_skipped", "Blocks that are neither merged nor downsampled because their meta.json is invalid or cannot be read, by reason. block_skipped and the log name them.", "reason"),
		skippedBlock: gauges("block_skipped", "1 for each block that is neither merged nor downsampled because its meta.json is invalid or cannot be read, by reason; at most 1000 blocks.", "block", "reason"),
		todoJobs:     gauges("todo_jobs", "Jobs of the last plan. More may follow from their results.", "kind"),
		todoBlocks:   gauges("todo_blocks", "Inputs of the jobs of the last plan.", "kind"),
		todoSamples:  gauges("todo_samples", "Samples in the inputs of the jobs of the last plan.", "kind"),
		deletionsOpen: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_compact_deletions_open", Help: "Requests to delete series, past their delay, of which the bucket still has copies; as of the last pass.",
		}),
		lastPass: f.NewGauge(prometheus.GaugeOpts{Name: "hindsight_compact_last_successful_pass_timestamp_seconds", Help: "Unix time of the end of the last pass without an error or a failed job."}),
	}
	// rate() misses the first failure of a series that appears with it.
	for _, k := range []plan.Kind{plan.Delete, plan.CleanPartial, plan.MarkDeletion, plan.Rewrite, plan.Merge, plan.Downsample} {
		for _, v := range []*prometheus.CounterVec{m.samples, m.panics, m.mismatches} {
			v.WithLabelValues(string(k))
		}
		for _, res := range resolutionsOf(k) {
			for _, v := range []*prometheus.CounterVec{m.started, m.completed, m.failed} {
				v.WithLabelValues(string(k), strconv.FormatInt(res, 10))
			}
		}
	}
	m.marked.WithLabelValues(block.DeletionMarkFile, "")
	for _, why := range [...]string{
		block.MarkOutOfOrderChunk, reason.BlockMetaMalformed.String(), reason.BlockIndexCorrupt.String(),
		reason.BlockSeriesOutOfOrder.String(), reason.BlockChunkCorrupt.String(), reason.BlockSegmentCorrupt.String(),
		reason.BlockSizeMismatch.String(), reason.BlockHashMismatch.String(),
	} {
		m.marked.WithLabelValues(block.NoCompactMarkFile, why)
	}
	return m
}

// resolutionsOf returns the resolutions that results of a kind of job can have.
func resolutionsOf(k plan.Kind) []int64 {
	all := []int64{block.ResolutionRaw, block.Resolution5m, block.Resolution1h}
	if k == plan.Downsample {
		return all[1:]
	}
	return all
}

// progress sets the todo metrics from a plan.
func (m *metrics) progress(p *plan.Plan, v *blocklist.View) {
	type todo struct{ jobs, blocks, samples float64 }
	sums := map[plan.Kind]*todo{
		plan.Delete: {}, plan.CleanPartial: {}, plan.MarkDeletion: {}, plan.Rewrite: {}, plan.Merge: {}, plan.Downsample: {},
	}
	for i := range p.Jobs {
		t := sums[p.Jobs[i].Kind]
		t.jobs++
		t.blocks += float64(len(p.Jobs[i].Blocks))
		t.samples += float64(samplesIn(&p.Jobs[i], v))
	}
	for k, t := range sums {
		m.todoJobs.WithLabelValues(string(k)).Set(t.jobs)
		m.todoBlocks.WithLabelValues(string(k)).Set(t.blocks)
		m.todoSamples.WithLabelValues(string(k)).Set(t.samples)
	}
}

// samplesIn counts the samples of the inputs of a job.
func samplesIn(j *plan.Job, v *blocklist.View) uint64 {
	var n uint64
	for _, id := range j.Blocks {
		if m := v.Metas[id]; m != nil {
			n += plan.Samples(m)
		}
	}
	return n
}

func (c *Compactor) samplesOf(j plan.Job) uint64 {
	if v := c.seen.Load(); v != nil {
		return samplesIn(&j, v)
	}
	return 0
}

func resolution(j plan.Job) string { return strconv.FormatInt(j.Resolution, 10) }
