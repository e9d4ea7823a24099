package limit

import (
	"fmt"
	"sync/atomic"
)

// Budget bounds the memory of an answer that comes from many stores. It only
// counts down: nothing is given back. A nil Budget has no limit. Concurrent use
// is safe.
type Budget struct {
	what string
	max  int64
	left atomic.Int64
}

// NewBudget returns a budget of max bytes; what names the content of the answer
// in errors.
func NewBudget(what string, max int64) *Budget {
	b := &Budget{what: what, max: max}
	b.left.Store(max)
	return b
}

// Take takes n bytes, or fails with ErrExceeded.
func (b *Budget) Take(n int64) error {
	if b == nil || b.left.Add(-n) >= 0 {
		return nil
	}
	return fmt.Errorf("%w: %s of all stores together take more than %d bytes", ErrExceeded, b.what, b.max)
}
