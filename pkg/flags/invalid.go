package flags

import "errors"

// InvalidError marks an error whose cause is the user's input: the program
// prints it as one line and exits with code 2.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap returns the marked error.
func (e *InvalidError) Unwrap() error { return e.Err }

// Invalid marks err as caused by the user's input. Nil stays nil.
func Invalid(err error) error {
	if err == nil {
		return nil
	}
	return &InvalidError{Err: err}
}

// IsInvalid says whether err, or one that it wraps, is marked.
func IsInvalid(err error) bool {
	var e *InvalidError
	return errors.As(err, &e)
}
