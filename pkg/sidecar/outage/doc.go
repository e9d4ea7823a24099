// Package outage reads all samples of a Prometheus from its data directory while that
// Prometheus does not answer: the persisted blocks, and the head from the write-ahead
// and write-behind logs.
package outage
