// Package headlog is the format in which the sidecar keeps the write-ahead log of a
// Prometheus in the bucket: names, pieces and their listing. It also scans the records of
// that log without decoding them. It is pure: the sidecar writes the objects, and recovery
// reads them. The format is drawn in docs/format/head-log.md.
package headlog
