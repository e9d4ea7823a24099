package flags

import (
	"errors"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// invalidError marks an error that the input of the user causes: the program
// prints it as one line and exits with code 2.
type invalidError struct{ err error }

func (e *invalidError) Error() string { return e.err.Error() }

// Unwrap returns the marked error.
func (e *invalidError) Unwrap() error { return e.err }

// ErrorID returns the id of wrong input.
func (e *invalidError) ErrorID() errorid.ID { return errorid.InvalidInput }

// Invalid marks err as caused by the user's input. Nil stays nil.
func Invalid(err error) error {
	if err == nil {
		return nil
	}
	return &invalidError{err: err}
}

// IsInvalid reports whether err, or one that it wraps, is marked.
func IsInvalid(err error) bool {
	var e *invalidError
	return errors.As(err, &e)
}
