package storeapi

import (
	"errors"
	"fmt"
)

// Kinds of failure that travel over the wire as status codes, and so does
// limit.ErrExceeded. Stores wrap them with %w; the answer of a remote store comes
// back as the same kind.
var (
	// ErrInvalid says that the request itself is wrong; asking again will not
	// help.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound means that the object named by the request does not exist.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable says that the store cannot answer currently.
	ErrUnavailable = errors.New("unavailable")
	// ErrPartial says that a part of the answer cannot be had and the request
	// did not accept a partial one.
	ErrPartial = errors.New("partial response refused")
)

// ErrSilent says that a store sent nothing for longer than its time-out.
var ErrSilent = fmt.Errorf("store is silent: %w", ErrUnavailable)

// ErrNoMatchers is the answer to a Select whose matchers are all on external
// labels: it would return everything that the store has.
var ErrNoMatchers error = noMatchers{}

type noMatchers struct{}

func (noMatchers) Error() string { return "no matchers specified (excluding external labels)" }
func (noMatchers) Unwrap() error { return ErrInvalid }
