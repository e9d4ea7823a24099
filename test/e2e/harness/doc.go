// Package harness starts the real processes of an end-to-end test or of the
// demo: hindsight itself, Prometheus, node_exporter and an S3 server, each on
// loopback, with its log in a file, and stopped at the end in every case.
package harness
