package query

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

func testRequests(size int64) *requests {
	return newRequests(newMemoryBudget(size, nil), newTenantLimits(fetchLimits{}), nil)
}

func requireEmpty(t *testing.T, b *memoryBudget) {
	t.Helper()
	require.Zero(t, b.used)
	require.Empty(t, b.byTenant)
	require.Empty(t, b.open)
	require.Empty(t, b.large)
	require.Zero(t, b.queue.n)
	require.Empty(t, b.queue.tenants)
}

func TestBudget_OneRequestNeverGetsMoreThanAll(t *testing.T) {
	b := newMemoryBudget(100, nil)
	s := b.share("", nil)
	require.NoError(t, s.take(t.Context(), 100))
	err := s.take(t.Context(), 1)
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.ErrorContains(t, err, "--query.max-memory")
	s.close()
	s.close()
	requireEmpty(t, b)
	require.Error(t, s.take(t.Context(), 1), "a request that has ended takes nothing")
	require.NoError(t, b.share("", nil).take(t.Context(), 100))
}

// When all wait for each other, the youngest fails, and the oldest goes on.
func TestBudget_YoungestFailsWhenAllWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBudget(1000, nil)
		first, second := b.share("", nil), b.share("", nil)
		require.NoError(t, first.take(t.Context(), 600))
		require.NoError(t, second.take(t.Context(), 200))
		got := make(chan error, 2)
		go func() { got <- second.take(t.Context(), 300) }()
		synctest.Wait()
		require.Equal(t, 1, b.queue.n)
		go func() { got <- first.take(t.Context(), 300) }()
		err := <-got
		require.ErrorIs(t, err, errBusy)
		require.ErrorIs(t, second.take(t.Context(), 1), errBusy, "it has to end")
		second.close()
		require.NoError(t, <-got)
		require.Equal(t, int64(900), b.used)
		first.close()
		requireEmpty(t, b)
	})
}

// Many requests that each need much take turns instead of failing, and a small one
// passes them.
func TestBudget_LargeRequestsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		b := newMemoryBudget(size, nil)
		done := make(chan error, 100)
		failed := 0
		for range 100 {
			go func() {
				s := b.share("", nil)
				defer s.close()
				var err error
				for i := 0; i < 64 && err == nil; i++ {
					err = s.take(t.Context(), size/256)
				}
				done <- err
			}()
		}
		for range 100 {
			if err := <-done; err != nil {
				require.ErrorIs(t, err, errBusy)
				failed++
			}
		}
		synctest.Wait()
		require.LessOrEqual(t, failed, 10, "requests wait for their turn")
		require.LessOrEqual(t, b.peak, int64(size))
		requireEmpty(t, b)

		large, small := b.share("", nil), b.share("", nil)
		require.NoError(t, large.take(t.Context(), size/2))
		other := b.share("", nil)
		go func() { done <- other.take(t.Context(), size/2) }()
		synctest.Wait()
		require.Equal(t, 1, b.queue.n)
		require.NoError(t, small.take(t.Context(), size/smallPart), "a small request does not wait for large ones")
		large.close()
		require.NoError(t, <-done)
		other.close()
		small.close()
		requireEmpty(t, b)
	})
}

// The tenant that holds the least is next, whoever came first.
func TestBudget_TenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBudget(800, nil)
		all := b.share("none", nil)
		require.NoError(t, all.take(t.Context(), 700))
		var order []string
		got := make(chan string, 8)
		for _, tenant := range []string{"a", "a", "a", "b"} {
			go func() {
				s := b.share(tenant, nil)
				defer s.close()
				if s.take(t.Context(), 400) == nil {
					got <- tenant
				}
			}()
			synctest.Wait()
		}
		held := b.share("a", nil)
		b.mtx.Lock()
		held.hold(3) // a has something already
		b.mtx.Unlock()
		all.close()
		for range 4 {
			order = append(order, <-got)
		}
		require.Equal(t, "b", order[0], "%v", order)
		synctest.Wait()
		held.close()
		requireEmpty(t, b)
	})
}

// A limit of a tenant holds for all its requests together, and does not touch others.
func TestBudget_LimitOfTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBudget(1000, nil)
		b.ofTenant = func(tenant string) int64 {
			if tenant == "a" {
				return 100
			}
			return 0
		}
		first, second, other := b.share("a", nil), b.share("a", nil), b.share("b", nil)
		require.ErrorContains(t, first.take(t.Context(), 101), `max_memory of tenant "a"`)
		require.NoError(t, first.take(t.Context(), 60))
		require.NoError(t, other.take(t.Context(), 500))
		got := make(chan error, 2)
		go func() { got <- second.take(t.Context(), 60) }()
		synctest.Wait()
		require.Equal(t, 1, b.queue.n)
		first.close()
		require.NoError(t, <-got)
		// Both wait for their tenant's memory only: another tenant that runs frees none.
		third := b.share("a", nil)
		require.NoError(t, third.take(t.Context(), 30))
		go func() { got <- second.take(t.Context(), 30) }()
		synctest.Wait()
		go func() { got <- third.take(t.Context(), 30) }()
		require.ErrorIs(t, <-got, errBusy)
		third.close()
		require.NoError(t, <-got)
		second.close()
		other.close()
		requireEmpty(t, b)
	})
}

func TestBudget_WaitEndsWithTheRequest(t *testing.T) {
	b := newMemoryBudget(100, nil)
	first, second := b.share("", nil), b.share("", nil)
	require.NoError(t, first.take(t.Context(), 100))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, second.take(ctx, 1), context.Canceled)
	first.close()
	second.close()
	requireEmpty(t, b)
}

// A request that waits for a slot with memory in its hands counts as waiting.
func TestBudget_WaitForSlotCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := testRequests(100 * creditStep)
		ctx, end := r.begin(t.Context(), requestInfo{})
		defer end()
		a := accountOf(ctx)
		require.NoError(t, a.take(ctx, 60*creditStep))
		older := r.budget.share("", nil)
		older.seq = 0
		require.NoError(t, older.take(t.Context(), creditStep))
		got := make(chan error, 1)
		go func() { got <- older.take(t.Context(), 60*creditStep) }()
		synctest.Wait()
		unblock := a.block(stageQueued)
		require.ErrorIs(t, context.Cause(ctx), errBusy, "it is the youngest of those that wait")
		unblock()
		end()
		require.NoError(t, <-got)
		older.close()
		requireEmpty(t, r.budget)
	})
}

func TestBudget_AccountKeepsItsContext(t *testing.T) {
	r := testRequests(1 << 20)
	ctx, end := r.begin(t.Context(), requestInfo{})
	inner, endInner := r.begin(ctx, requestInfo{})
	require.Same(t, accountOf(ctx), accountOf(inner))
	require.NoError(t, accountOf(ctx).take(ctx, 10))
	endInner()
	require.Positive(t, r.budget.used)
	end()
	requireEmpty(t, r.budget)
	require.Empty(t, r.open)
	require.True(t, errors.Is(ctx.Err(), context.Canceled))
}

// A request that gives back lets a waiting one go on before it ends.
func TestBudget_GiveLetsOthersGoOn(t *testing.T) {
	r := testRequests(16 * creditStep)
	ctx, end := r.begin(t.Context(), requestInfo{})
	a := accountOf(ctx)
	require.NoError(t, a.take(ctx, 16*creditStep))
	other := r.budget.share("", nil)
	got := make(chan error, 1)
	go func() { got <- other.take(t.Context(), 5*creditStep) }()
	for range 14 {
		a.give(creditStep)
	}
	require.NoError(t, <-got)
	// The request can take it again.
	require.NoError(t, a.take(ctx, 2*creditStep))
	a.give(100 * creditStep) // more than was taken: never below nothing
	end()
	other.close()
	requireEmpty(t, r.budget)
	var none *account
	none.give(1)
}
