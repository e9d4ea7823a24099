package block

import (
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"
)

// ErrNoLabels is the refusal to publish a block without external labels: it
// could not be told apart from the blocks of other producers.
var ErrNoLabels = errors.New("the block has no external labels")

// Reason says in which way a block is broken. The values are used as metric
// labels.
type Reason string

// The reasons.
const (
	ReasonMetaMissing   Reason = "meta-missing"
	ReasonMetaMalformed Reason = "meta-malformed"
	ReasonMetaRefused   Reason = "meta-refused"
	ReasonMetaVersion   Reason = "meta-version"
	ReasonMetaForeign   Reason = "meta-of-other-block"
	ReasonMarkMalformed Reason = "mark-malformed"
	ReasonIndex         Reason = "index-corrupt"
	ReasonSeriesOrder   Reason = "series-out-of-order"
	ReasonChunk         Reason = "chunk-corrupt"
	ReasonSegment       Reason = "segment-corrupt"
	ReasonSize          Reason = "size-mismatch"
	ReasonHash          Reason = "hash-mismatch"
)

// CorruptError says that a block's own data is broken, as opposed to an error
// on the way to it. Trying again does not help.
type CorruptError struct {
	ID     ulid.ULID // zero when unknown
	Reason Reason
	Err    error
}

func (e *CorruptError) Error() string {
	if e.ID.IsZero() {
		return fmt.Sprintf("%s: %v", e.Reason, e.Err)
	}
	return fmt.Sprintf("block %s: %s: %v", e.ID, e.Reason, e.Err)
}

// Unwrap returns what exactly is broken.
func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(reason Reason, format string, args ...any) *CorruptError {
	return &CorruptError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// ReasonOf returns the reason if err tells of a corrupt block, or "".
func ReasonOf(err error) Reason {
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
