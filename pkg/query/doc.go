// Package query is the querier: one view over all stores, with replicas
// merged, behind the Prometheus HTTP API.
package query
