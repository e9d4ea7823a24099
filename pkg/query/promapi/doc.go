// Package promapi is the HTTP face of the querier: the Prometheus API through
// Prometheus's own package, the parameters that come on top of it, /federate,
// and the page of stores.
package promapi
