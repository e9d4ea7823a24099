// Package sidecar is the component beside one Prometheus server: it serves that
// server's series over the StoreAPI, ships its blocks to the bucket, and reloads
// its configuration when the files change.
package sidecar
