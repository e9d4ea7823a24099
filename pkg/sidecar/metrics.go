package sidecar

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	up        prometheus.Gauge
	lastCheck prometheus.Gauge

	reads        *prometheus.CounterVec
	directBlocks prometheus.Gauge
	directEnd    prometheus.Gauge

	shipFailures prometheus.Counter
	lastShipped  prometheus.Gauge
	unsafe       prometheus.Gauge
}

// Values of the label "from" of the reads.
const (
	readBlocks    = "blocks"
	readRemote    = "prometheus"
	readDirectory = "data_directory"
)

// newMetrics registers the metrics of a sidecar; reg may be nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		up: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_prometheus_up",
			Help: "Whether the Prometheus server answered the last request for its configuration.",
		}),
		lastCheck: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_last_heartbeat_success_time_seconds",
			Help: "Unix time of the last successful request for the configuration of Prometheus.",
		}),
		reads: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_sidecar_reads_total",
			Help: "Parts of requests by where they were read from: persisted blocks, Prometheus, or its whole data directory while Prometheus does not answer.",
		}, []string{"from"}),
		directBlocks: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_direct_blocks",
			Help: "Blocks of Prometheus that are read from disk.",
		}),
		directEnd: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_direct_end_time_seconds",
			Help: "Unix time before which all samples are read from disk.",
		}),
		shipFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_sidecar_ship_failures_total",
			Help: "Passes over the data directory in which a block could not be shipped.",
		}),
		lastShipped: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_last_ship_success_time_seconds",
			Help: "Unix time of the last pass over the data directory after which all blocks were shipped.",
		}),
		unsafe: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_unsafe_compaction",
			Help: "Whether Prometheus runs with flags by which it may compact a block before it is shipped.",
		}),
	}
	for _, from := range []string{readBlocks, readRemote, readDirectory} {
		m.reads.WithLabelValues(from)
	}
	return m
}

func (m *metrics) observeCheck(err error) {
	if err != nil {
		m.up.Set(0)
		return
	}
	m.up.Set(1)
	m.lastCheck.SetToCurrentTime()
}

// Values of the label "api" of answerMetrics.
const (
	apiRules     = "rules"
	apiTargets   = "targets"
	apiStatus    = "status"
	apiMetadata  = "metadata"
	apiExemplars = "exemplars"
)

// Values of the label "from" of answerMetrics.
const (
	fromPrometheus = "prometheus"
	fromShared     = "shared"
	fromCache      = "cache"
	fromLastKnown  = "last_known"
	fromNothing    = "error"
)

// answerMetrics are those of lastKnown.
type answerMetrics struct {
	answers *prometheus.CounterVec
	bytes   prometheus.Gauge
}

func newAnswerMetrics(reg prometheus.Registerer) *answerMetrics {
	f := promauto.With(reg)
	m := &answerMetrics{
		answers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_sidecar_api_answers_total",
			Help: "Answers of rules, targets, status, metadata and exemplars, by where they are from: " +
				"prometheus is a request to it, shared one that another caller had sent, cache a recent answer, " +
				"last_known the last answer of a server that does not answer now, error none.",
		}, []string{"api", "from"}),
		bytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_api_answers_kept_bytes",
			Help: "Size of the answers of Prometheus that are kept, as JSON.",
		}),
	}
	for _, api := range [...]string{apiRules, apiTargets, apiStatus, apiMetadata, apiExemplars} {
		for _, from := range [...]string{fromPrometheus, fromShared, fromCache, fromLastKnown, fromNothing} {
			m.answers.WithLabelValues(api, from)
		}
	}
	return m
}

// reloaderMetrics are those of a reloader, which it has only when it is enabled: alerts
// fire on a last reload that was not successful.
type reloaderMetrics struct {
	reloads, reloadFailures   prometheus.Counter
	applies, applyFailures    prometheus.Counter
	watchEvents, watchErrors  prometheus.Counter
	reloadSuccess, lastReload prometheus.Gauge
	watches, unset            prometheus.Gauge
}

// newReloaderMetrics registers each metric twice: as the reloaders of the field name
// it, and with the prefix of the sidecar.
func newReloaderMetrics(reg prometheus.Registerer) *reloaderMetrics {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "reloader_" + name, Help: help})
		all = append(all, c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "reloader_" + name, Help: help})
		all = append(all, g)
		return g
	}
	m := &reloaderMetrics{
		reloads:        counter("reloads_total", "Attempts to make Prometheus reload its configuration."),
		reloadFailures: counter("reloads_failed_total", "Attempts to make Prometheus reload its configuration that failed."),
		applies:        counter("config_apply_operations_total", "Checks of the configuration and rule files."),
		applyFailures:  counter("config_apply_operations_failed_total", "Checks that could not read the files, substitute, or reload."),
		watchEvents:    counter("watch_events_total", "File events that the reloader has received."),
		watchErrors:    counter("watch_errors_total", "Errors of watching files; files are then read every watch interval only."),
		reloadSuccess:  gauge("last_reload_successful", "Whether the last check of the files, with its reload, succeeded."),
		lastReload:     gauge("last_reload_success_timestamp_seconds", "Unix time of the last reload that succeeded."),
		watches:        gauge("watches", "Directories that the reloader watches."),
		unset:          gauge("config_environment_variable_expansion_errors", "Environment variables of the configuration that are not set."),
	}
	if reg != nil {
		reg.MustRegister(all...)
		prometheus.WrapRegistererWithPrefix("hindsight_sidecar_", reg).MustRegister(all...)
	}
	return m
}
