// Package storeapi is the one seam for reads: every source of series is a Store, which
// answers a Request with a SeriesSet. The gRPC StoreAPI is an adapter around it (package storerpc).
package storeapi
