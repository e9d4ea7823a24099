package storeapi

import (
	"fmt"
	"sync/atomic"
)

// Budget bounds the memory of an answer that comes from many stores. It counts
// down and is never given back. A nil Budget allows everything. Concurrent use
// is safe.
type Budget struct {
	what string
	size int64
	left atomic.Int64
}

// NewBudget returns a budget of size bytes; what names the answer in errors.
func NewBudget(what string, size int64) *Budget {
	b := &Budget{what: what, size: size}
	b.left.Store(size)
	return b
}

// Take takes n bytes, or fails with ErrLimit.
func (b *Budget) Take(n int64) error {
	if b == nil || b.left.Add(-n) >= 0 {
		return nil
	}
	return fmt.Errorf("%w: all %s together take more than %d bytes", ErrLimit, b.what, b.size)
}
