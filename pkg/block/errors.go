package block

import (
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// ErrNoLabels refuses to publish a block without external labels, because
// nothing would distinguish it from the blocks of other producers.
var ErrNoLabels = errorid.Sentinel(errorid.BlockNoLabels, "the block has no external labels")

// CorruptError reports that the data of a block is broken. Errors of reading it
// from a bucket or a disk are other errors. A retry does not help.
type CorruptError struct {
	ID     ulid.ULID // zero when unknown
	Reason reason.Reason
	Err    error
}

// Error names the block, the reason and the detail.
func (e *CorruptError) Error() string {
	if e.ID.IsZero() {
		return fmt.Sprintf("%s: %v", e.Reason, e.Err)
	}
	return fmt.Sprintf("block %s: %s: %v", e.ID, e.Reason, e.Err)
}

// Unwrap returns the detail.
func (e *CorruptError) Unwrap() error { return e.Err }

// ErrorID returns the id of the reason.
func (e *CorruptError) ErrorID() errorid.ID { return e.Reason.ErrorID() }

func corrupt(why reason.Reason, format string, args ...any) *CorruptError {
	return &CorruptError{Reason: why, Err: fmt.Errorf(format, args...)}
}

// ReasonOf returns the reason of the CorruptError in the chain of err, or "".
func ReasonOf(err error) reason.Reason {
	var c *CorruptError
	if errors.As(err, &c) {
		return c.Reason
	}
	return ""
}

// withID adds the block to a CorruptError that does not know it yet.
func withID(id ulid.ULID, err error) error {
	var c *CorruptError
	if errors.As(err, &c) && c.ID.IsZero() {
		return &CorruptError{ID: id, Reason: c.Reason, Err: c.Err}
	}
	return err
}
