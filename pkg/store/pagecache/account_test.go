package pagecache

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// holding returns an account that holds n bytes and was last read some time ago. It
// releases them when it is ended.
func holding(t *testing.T, b *Budget, n int64, ago time.Duration) (a *Account, ended chan error) {
	ended = make(chan error, 1)
	a = &Account{Budget: b}
	a.Abort = func(err error) {
		ended <- err
		go a.Drop(n)
	}
	a.read.Store(time.Now().Add(-ago).UnixNano())
	require.NoError(t, a.Hold(t.Context(), n))
	return a, ended
}

func TestBudget_EndsRequestUnreadForLongest(t *testing.T) {
	b := NewBudget("--flag", 100)
	_, read := holding(t, b, 40, 0)
	_, unread := holding(t, b, 30, 2*unreadAfter)
	_, longest := holding(t, b, 30, 3*unreadAfter)
	a := &Account{Budget: b, Abort: func(error) {}}
	require.NoError(t, a.Hold(t.Context(), 30))
	err := <-longest
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.ErrorContains(t, err, "--flag")
	require.NoError(t, a.Hold(t.Context(), 30))
	require.Error(t, <-unread)
	require.Empty(t, read)
	require.EqualValues(t, 100, b.Used())
}

func TestBudget_WaitsForMemoryOfOthers(t *testing.T) {
	b := NewBudget("--flag", 100)
	other, ended := holding(t, b, 80, 0)
	a := &Account{Budget: b, Abort: func(error) {}}
	done := make(chan error)
	go func() { done <- a.Hold(context.Background(), 50) }()
	require.Eventually(t, func() bool {
		b.mtx.Lock()
		defer b.mtx.Unlock()
		return b.waiting == 1
	}, 10*time.Second, time.Millisecond, "the only other request holds memory")
	other.Drop(80)
	require.NoError(t, <-done)
	require.Empty(t, ended)

	ctx, cancel := context.WithCancelCause(t.Context())
	late := &Account{Budget: b, Abort: func(error) {}}
	go func() { done <- late.Hold(ctx, 90) }()
	gone := errors.New("client gone")
	cancel(gone)
	require.ErrorIs(t, <-done, gone)

	// A request for more than the budget fails at once, as does one without Abort.
	require.ErrorIs(t, late.Hold(t.Context(), 101), limit.ErrExceeded)
	require.ErrorIs(t, (&Account{Budget: b}).Hold(t.Context(), 90), limit.ErrExceeded)
	a.Drop(50)
	require.Zero(t, b.Used())
}
