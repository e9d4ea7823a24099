// Package storeapi is the one seam for reads: what every source of series
// offers (Store), what is asked of it (Request) and what comes back
// (SeriesSet). The gRPC StoreAPI is an adapter around it (package storerpc).
package storeapi
