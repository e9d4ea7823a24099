package storeapi

import "context"

// Account counts what a request costs its reader. It may be used concurrently.
type Account interface {
	// Hold begins the count of what is held of the answer of one store before any of it
	// is passed on. store is its name, for errors.
	Hold(ctx context.Context, store string) Holding
}

// Holding counts the series that are held of one answer. It belongs to one goroutine
// at a time.
type Holding interface {
	// Add counts a series that is held from now on. An error, usually a *limit.Error,
	// fails the request; it says nothing about the store.
	Add(s Series) error
	// Remove says that a series that was added is no longer held.
	Remove(s Series)
}
