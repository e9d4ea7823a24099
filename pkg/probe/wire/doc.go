// Package wire writes the series of a probe by remote write, and reads them by the HTTP
// API of Prometheus.
package wire
