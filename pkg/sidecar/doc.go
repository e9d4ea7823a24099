// Package sidecar is the component beside one Prometheus server: it serves the
// series of that server over the StoreAPI, ships its blocks to the bucket, and makes
// it reload its configuration when the files change.
package sidecar
