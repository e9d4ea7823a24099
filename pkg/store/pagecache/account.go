package pagecache

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// LimitError says that a request was ended because it needs more than it may
// have. It is the user's to solve: by a narrower selector, or a larger limit.
type LimitError struct {
	// What is limited, in words: "bytes fetched", "series".
	What string
	// Limit is the flag that sets the limit, and its value.
	Limit string
	Value int64
	// Wanted is how much the request had come to need when it was ended.
	Wanted int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("limit exceeded: the request needs at least %d %s, and %s is %d", e.Wanted, e.What, e.Limit, e.Value)
}

// Unwrap says that the error is storeapi.ErrLimit.
func (e *LimitError) Unwrap() error { return storeapi.ErrLimit }

// Budget bounds the bytes that all requests together hold in memory at one
// time. A nil Budget has no bound.
type Budget struct {
	flag string
	max  int64
	used atomic.Int64
}

// NewBudget makes a budget of max bytes; flag is named in errors. A max of 0
// means no bound.
func NewBudget(flag string, max int64) *Budget { return &Budget{flag: flag, max: max} }

// Used is the number of bytes that are held now.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Free is the number of bytes that are left; without a bound it is very large.
func (b *Budget) Free() int64 {
	if b == nil || b.max == 0 {
		return math.MaxInt64
	}
	return max(0, b.max-b.used.Load())
}

func (b *Budget) hold(n int64) error {
	if b == nil {
		return nil
	}
	if used := b.used.Add(n); b.max > 0 && used > b.max {
		b.used.Add(-n)
		return &LimitError{What: "bytes of memory (together with the other running requests)", Limit: b.flag, Value: b.max, Wanted: used}
	}
	return nil
}

func (b *Budget) drop(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}

// Account counts what one request takes; it may be used concurrently. The zero
// value has no limits.
type Account struct {
	// Budget is shared with all other requests; may be nil.
	Budget *Budget
	// MaxBytes bounds the bytes that the request reads, from wherever; 0 means
	// no bound. BytesFlag is named in the error.
	MaxBytes  int64
	BytesFlag string

	bytes atomic.Int64
}

// take reserves n bytes before they are read.
func (a *Account) take(n int64) error {
	if total := a.bytes.Add(n); a.MaxBytes > 0 && total > a.MaxBytes {
		return &LimitError{What: "bytes of blocks", Limit: a.BytesFlag, Value: a.MaxBytes, Wanted: total}
	}
	return a.Budget.hold(n)
}

func (a *Account) giveBack(n int64) { a.Budget.drop(n) }
