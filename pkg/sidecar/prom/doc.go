// Package prom is the client of one Prometheus server: it reads its configuration
// and status (external labels, flags, oldest sample), chunks over remote read, and
// label sets, names, values and metadata over the HTTP API.
package prom
