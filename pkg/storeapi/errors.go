package storeapi

import (
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Kinds of failure that travel over the wire as status codes, and so does
// limit.ErrExceeded. Stores wrap them with %w; the answer of a remote store comes
// back as the same kind.
var (
	// ErrInvalid says that the request itself is wrong; asking again will not
	// help.
	ErrInvalid = errorid.Sentinel(errorid.StoreInvalid, "invalid request")
	// ErrNotFound means that the object named by the request does not exist.
	ErrNotFound = errorid.Sentinel(errorid.StoreNotFound, "not found")
	// ErrUnavailable says that the store cannot answer currently.
	ErrUnavailable = errorid.Sentinel(errorid.StoreUnavailable, "unavailable")
	// ErrPartial says that a part of the answer cannot be had and the request
	// did not accept a partial one.
	ErrPartial = errorid.Sentinel(errorid.PartialRefused, "partial response refused")
)

// ErrNotReady says that a store does not know all of its data yet, or no longer: an answer
// without the rest would look complete.
var ErrNotReady = errorid.With(errorid.NotReady, fmt.Errorf("not ready: %w", ErrUnavailable))

// ErrSilent says that a store sent nothing for longer than its time-out.
var ErrSilent = errorid.With(errorid.StoreTimeout, fmt.Errorf("store is silent: %w", ErrUnavailable))

// ErrNoMatchers is the answer to a Select whose matchers are all on external
// labels: it would return everything that the store has.
var ErrNoMatchers error = noMatchers{}

type noMatchers struct{}

func (noMatchers) Error() string { return "no matchers specified (excluding external labels)" }
func (noMatchers) Unwrap() error { return ErrInvalid }

// ErrorID returns the id of the error.
func (noMatchers) ErrorID() errorid.ID { return errorid.StoreNoMatchers }
