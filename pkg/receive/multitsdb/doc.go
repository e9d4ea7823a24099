// Package multitsdb keeps one Prometheus TSDB for each tenant: it opens them,
// appends to them, flushes and ships them, closes idle ones, and shows each as
// a storeapi.Store.
package multitsdb
