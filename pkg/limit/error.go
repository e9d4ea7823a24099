package limit

import (
	"errors"
	"fmt"
)

// ErrExceeded is what every Error wraps.
var ErrExceeded = errors.New("limit exceeded")

// Error says which limit a request exceeds. The user can narrow the request, or
// the operator raise the limit.
type Error struct {
	// A noun in plural for the limited thing: "series", "bytes of memory".
	What string
	// Flag sets the limit, and Max is its value.
	Flag string
	Max  int64
	// Needed is how much the request needed when it was ended; it may need more.
	Needed int64
	// Detail says where the limit was reached; empty where that is of no use.
	Detail string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: request needs at least %d %s, %s allows %d", ErrExceeded, e.Needed, e.What, e.Flag, e.Max)
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text + "; narrow the request or raise the limit"
}

// Unwrap returns ErrExceeded.
func (e *Error) Unwrap() error { return ErrExceeded }
