// Package prom is the client of one Prometheus server: what it is (external
// labels, flags, version, oldest sample), and what it holds (chunks over remote
// read, label sets, names, values and metadata over its HTTP API).
package prom
