package headship

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	logBytes, shippedBytes prometheus.Counter
	pieces, removed        prometheus.Counter
	failures, damaged      prometheus.Counter
	gaps, generations      prometheus.Counter
	lastSuccess, unshipped prometheus.Gauge
	held                   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "hindsight_sidecar_head_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "hindsight_sidecar_head_" + name, Help: help})
	}
	return &metrics{
		logBytes:     counter("log_bytes_total", "Bytes of the logs of Prometheus that were read and shipped, or needed no shipping."),
		shippedBytes: counter("shipped_bytes_total", "Bytes of pieces of the logs uploaded to the bucket."),
		pieces:       counter("pieces_uploaded_total", "Pieces of the logs uploaded to the bucket."),
		removed:      counter("pieces_removed_total", "Pieces of the logs removed from the bucket because blocks hold their samples."),
		failures:     counter("ship_failures_total", "Passes that did not ship all of the logs."),
		damaged:      counter("damaged_segments_total", "Segments of the logs of which a part could not be read."),
		gaps:         counter("gaps_total", "Times that Prometheus deleted segments before they were shipped. The blocks that hold their samples are shipped instead."),
		generations:  counter("generations_total", "Logs begun in the bucket because the log on disk was not one that had been shipped."),
		lastSuccess:  gauge("last_ship_success_time_seconds", "Unix time at which the last pass began that shipped all of the logs: samples before it survive the loss of the disk."),
		unshipped:    gauge("unshipped_bytes", "Bytes of the logs on disk that are not shipped yet."),
		held:         gauge("pieces", "Pieces of the current log in the bucket."),
	}
}
