// Package storerpc is the wire side of storeapi: it serves any storeapi.Store
// over the gRPC StoreAPI of the Thanos family, and makes a storeapi.Store of a
// remote one. docs/format/storeapi.md shows what is on the wire.
package storerpc
