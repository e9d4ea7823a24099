// Package store is the store gateway: it serves the blocks of a bucket as a
// storeapi.Store.
package store
