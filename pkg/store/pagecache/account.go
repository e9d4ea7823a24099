package pagecache

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// Budget bounds the bytes that all requests together hold in memory at one time. A
// request that does not fit waits for others, up to memoryWait; a request that holds
// memory and whose client has not read its answer for unreadAfter is ended. A nil
// Budget has no limit.
type Budget struct {
	flag string
	max  int64

	mtx  sync.Mutex
	used int64
	// holders are the accounts that hold memory.
	holders map[*Account]struct{}
	// freed is closed, and replaced, when memory is released while a request waits.
	freed   chan struct{}
	waiting int
}

const (
	// unreadAfter is how long a request may hold memory that others need while its
	// client does not read the answer.
	unreadAfter = 5 * time.Second
	// memoryWait is how long a request waits for memory of others.
	memoryWait = 15 * time.Second
	// unreadCheck is how often a waiting request searches for unread ones.
	unreadCheck = 250 * time.Millisecond
)

// NewBudget makes a budget of max bytes; flag is named in errors. A max of 0
// means no limit.
func NewBudget(flag string, max int64) *Budget {
	return &Budget{flag: flag, max: max, holders: map[*Account]struct{}{}, freed: make(chan struct{})}
}

// Used is the number of bytes that are held now.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	b.mtx.Lock()
	defer b.mtx.Unlock()
	return b.used
}

// Free is the number of bytes that are left; without a limit it is math.MaxInt64.
func (b *Budget) Free() int64 {
	if b == nil || b.max == 0 {
		return math.MaxInt64
	}
	return max(0, b.max-b.Used())
}

// hold takes n bytes for the account.
func (b *Budget) hold(ctx context.Context, a *Account, n int64) error {
	if b == nil || n == 0 {
		return nil
	}
	var until time.Time
	for {
		b.mtx.Lock()
		wanted := b.used + n
		if b.max == 0 || wanted <= b.max {
			b.used += n
			a.held += n
			b.holders[a] = struct{}{}
			b.mtx.Unlock()
			return nil
		}
		now := time.Now()
		waits := b.endUnread(a, now) || a.Abort != nil && b.heldByOther(a)
		freed := b.freed
		b.waiting++
		b.mtx.Unlock()
		if until.IsZero() {
			until = now.Add(memoryWait)
		}
		if n > b.max || !waits || now.After(until) {
			b.stopWaiting()
			return &limit.Error{What: "bytes of memory together with the other running requests", Flag: b.flag, Max: b.max, Needed: wanted}
		}
		check := time.NewTimer(unreadCheck)
		select {
		case <-freed:
		case <-check.C:
		case <-ctx.Done():
		}
		check.Stop()
		b.stopWaiting()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// heldByOther reports whether a request other than a holds memory. It needs the lock.
func (b *Budget) heldByOther(a *Account) bool {
	for h := range b.holders {
		if h != a {
			return true
		}
	}
	return false
}

// endUnread ends the request, other than a, that holds memory and was not read
// for the longest time. It needs the lock.
func (b *Budget) endUnread(a *Account, now time.Time) bool {
	var oldest *Account
	for h := range b.holders {
		if h != a && h.Abort != nil && !h.ended && (oldest == nil || h.read.Load() < oldest.read.Load()) {
			oldest = h
		}
	}
	if oldest == nil || now.Sub(time.Unix(0, oldest.read.Load())) < unreadAfter {
		return false
	}
	oldest.ended = true
	oldest.Abort(fmt.Errorf("%w: client did not read the answer for %s and other requests need its memory, of which %s allows %d bytes",
		limit.ErrExceeded, unreadAfter, b.flag, b.max))
	return true
}

func (b *Budget) drop(a *Account, n int64) {
	if b == nil || n == 0 {
		return
	}
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.used -= n
	if a.held -= n; a.held <= 0 {
		delete(b.holders, a)
	}
	if b.waiting > 0 {
		close(b.freed)
		b.freed = make(chan struct{})
	}
}

func (b *Budget) stopWaiting() {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.waiting--
}

// Account counts the bytes that one request reads and holds; it may be used
// concurrently. The zero value has no limits.
type Account struct {
	// Budget is shared with all other requests; may be nil.
	Budget *Budget
	// MaxBytes bounds the bytes that the request reads, from memory, disk or bucket;
	// 0 means no limit. BytesFlag is named in the error.
	MaxBytes  int64
	BytesFlag string
	// Abort ends the request, also while it waits for its client; it may be nil. Only
	// a request with Abort waits for memory that others hold.
	Abort func(error)

	bytes atomic.Int64
	// read is when the answer was last read, in nanoseconds of the clock.
	read atomic.Int64
	// held and ended are guarded by the budget.
	held  int64
	ended bool
}

// Read records that the client reads the answer now.
func (a *Account) Read(now time.Time) { a.read.Store(now.UnixNano()) }

// Hold takes n bytes of memory beside the pages that are read; Drop releases them.
func (a *Account) Hold(ctx context.Context, n int64) error { return a.Budget.hold(ctx, a, n) }

// Drop releases n bytes that Hold took.
func (a *Account) Drop(n int64) { a.Budget.drop(a, n) }

// Keep takes n bytes of memory, in which the request reads what is kept of bytes of blocks in
// another form. Those count as read.
func (a *Account) Keep(ctx context.Context, n, bytes int64) error {
	if err := a.reads(bytes); err != nil {
		return err
	}
	return a.Budget.hold(ctx, a, n)
}

// take reserves n bytes before they are read.
func (a *Account) take(ctx context.Context, n int64) error {
	return a.Keep(ctx, n, n)
}

func (a *Account) reads(n int64) error {
	if total := a.bytes.Add(n); a.MaxBytes > 0 && total > a.MaxBytes {
		return &limit.Error{What: "bytes of blocks", Flag: a.BytesFlag, Max: a.MaxBytes, Needed: total}
	}
	return nil
}
