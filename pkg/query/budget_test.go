package query

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

func TestBudget_OneRequestNeverGetsMoreThanAll(t *testing.T) {
	b := newMemoryBudget(100, nil)
	s := b.share()
	require.NoError(t, s.take(t.Context(), 100))
	err := s.take(t.Context(), 1)
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.ErrorContains(t, err, "--query.max-memory")
	s.close()
	s.close()
	require.Zero(t, b.used)
	require.Zero(t, b.holders)
	require.Error(t, s.take(t.Context(), 1), "a request that has ended takes nothing")
	require.NoError(t, b.share().take(t.Context(), 100))
}

// A request waits while another one goes on, and gets what that one frees.
func TestBudget_WaitsForOthers(t *testing.T) {
	b := newMemoryBudget(100, nil)
	first, second := b.share(), b.share()
	require.NoError(t, first.take(t.Context(), 80))
	require.NoError(t, second.take(t.Context(), 10))
	got := make(chan error, 1)
	go func() { got <- second.take(t.Context(), 50) }()
	for waiting := false; !waiting; {
		b.mtx.Lock()
		waiting = b.waiting == 1
		b.mtx.Unlock()
	}
	// All others wait now: this one must not wait for them.
	require.ErrorIs(t, first.take(t.Context(), 15), errBusy)
	first.close()
	require.NoError(t, <-got)
	require.Equal(t, int64(60), b.used)
	second.close()
	require.Zero(t, b.waiting)
	require.Zero(t, b.holders)
}

func TestBudget_WaitEndsWithTheRequest(t *testing.T) {
	b := newMemoryBudget(100, nil)
	first, second := b.share(), b.share()
	require.NoError(t, first.take(t.Context(), 100))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, second.take(ctx, 1), context.Canceled)
	require.Zero(t, b.waiting)
}

func TestBudget_AccountKeepsItsContext(t *testing.T) {
	b := newMemoryBudget(1<<20, nil)
	ctx, end := b.begin(t.Context(), fetchLimits{})
	inner, endInner := b.begin(ctx, fetchLimits{})
	require.Same(t, accountOf(ctx), accountOf(inner))
	require.NoError(t, accountOf(ctx).take(ctx, 10))
	endInner()
	require.Positive(t, b.used)
	end()
	require.Zero(t, b.used)
}

// A request that gives back lets a waiting one go on before it ends.
func TestBudget_GiveLetsOthersGoOn(t *testing.T) {
	b := newMemoryBudget(10*creditStep, nil)
	ctx, end := b.begin(t.Context(), fetchLimits{})
	a := accountOf(ctx)
	require.NoError(t, a.take(ctx, 10*creditStep))
	other := b.share()
	got := make(chan error, 1)
	go func() { got <- other.take(t.Context(), 5*creditStep) }()
	for range 8 {
		a.give(creditStep)
	}
	require.NoError(t, <-got)
	b.mtx.Lock()
	require.LessOrEqual(t, b.used, int64(10*creditStep))
	require.Equal(t, 2, b.holders)
	b.mtx.Unlock()
	// What is given back can be taken again.
	require.NoError(t, a.take(ctx, 2*creditStep))
	a.give(100 * creditStep) // more than was taken: never below nothing
	end()
	other.close()
	require.Zero(t, b.used)
	require.Zero(t, b.holders)
	require.Zero(t, b.waiting)
	var none *account
	none.give(1)
}
