// Package storerpc is the wire side of storeapi: it serves any storeapi.Store
// over the gRPC StoreAPI of the Thanos family, and makes a storeapi.Store of a
// remote one. docs/format/storeapi.md draws the wire format.
package storerpc
