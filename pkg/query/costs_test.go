package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestCosts_RememberTheLastTime(t *testing.T) {
	c := newCosts()
	at := func(start, span, step int64) *parser.EvalStmt {
		return &parser.EvalStmt{Start: time.UnixMilli(start), End: time.UnixMilli(start + span), Interval: time.Duration(step)}
	}
	key := c.key("t", "sum(m)", at(0, 100, 10))
	require.Zero(t, c.of(key))
	c.note(key, 7, false)
	require.EqualValues(t, 7, c.of(c.key("t", "sum(m)", at(5000, 100, 10))), "whenever it is evaluated")
	for _, other := range []uint64{
		c.key("u", "sum(m)", at(0, 100, 10)), c.key("t", "sum(n)", at(0, 100, 10)),
		c.key("t", "sum(m)", at(0, 200, 10)), c.key("t", "sum(m)", at(0, 100, 20)),
	} {
		require.Zero(t, c.of(other))
	}
	c.note(key, 3, true)
	require.EqualValues(t, 7, c.of(key), "it failed before it had cost as much")
	c.note(key, 3, false)
	require.EqualValues(t, 3, c.of(key))
	for i := range 3 * knownCosts {
		c.note(c.key("t", fmt.Sprint(i), at(0, 0, 0)), 1, false)
	}
}

// TestHeavyQueries_OneAfterTheOtherAsksTheStores sends ten equal queries of which one alone
// is heavy: once its cost is known, no two of them read at the same time, and a light one
// passes them.
func TestHeavyQueries_OneAfterTheOtherAsksTheStores(t *testing.T) {
	store := fakeStore(t, "a", 150, 600)
	var mtx sync.Mutex
	open, most := 0, 0
	store.Wrap = func(_ context.Context, r *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		if r.MaxTime-r.MinTime < 1000 {
			return set
		}
		mtx.Lock()
		defer mtx.Unlock()
		open++
		most = max(most, open)
		return &closeNoted{SeriesSet: set, closed: func() {
			mtx.Lock()
			defer mtx.Unlock()
			open--
		}}
	}
	q := localQuerier(t, []storeapi.Store{store})
	q.q.engine.evaluator.slots.mostHeavy = 1
	heavy := func() error {
		a := q.get("/api/v1/query_range", "query", "sum(avg_over_time(m[5m]))", "start", "0", "end", "600", "step", "0.06")
		if a.code != http.StatusOK {
			return errors.New(a.Error)
		}
		return nil
	}
	require.NoError(t, heavy()) // its cost is known now
	most = 0
	var queries sync.WaitGroup
	for range 10 {
		queries.Go(func() {
			if err := heavy(); err != nil {
				t.Error(err)
			}
		})
	}
	a := q.get("/api/v1/query", "query", "1+1")
	require.Equal(t, http.StatusOK, a.code, a.Error)
	queries.Wait()
	require.Equal(t, 1, most)
}

type closeNoted struct {
	storeapi.SeriesSet
	closed func()
}

func (s *closeNoted) Close() error {
	s.closed()
	return s.SeriesSet.Close()
}

// A heavy query keeps its slot while it waits for stores, but not for long.
func TestSlots_HeavyQueryKeepsItsSlotOverShortWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newSlotTracker("", 4, nil, nil)
		require.NoError(t, err)
		s.mostHeavy = 1
		r := testRequests(1 << 30)
		ctx, end := r.begin(t.Context(), requestInfo{})
		defer end()
		a := accountOf(ctx)
		a.expected.Store(2 * heavyWork)
		n, err := s.Insert(ctx, "heavy")
		require.NoError(t, err)
		held := func() int {
			synctest.Wait()
			s.mtx.Lock()
			defer s.mtx.Unlock()
			return s.heavy
		}
		for range 5 {
			require.NoError(t, a.idle(ctx, func() {
				time.Sleep(keepSlot / 2)
				require.Equal(t, 1, held())
			}))
		}
		require.NoError(t, a.idle(ctx, func() {
			time.Sleep(2 * keepSlot)
			require.Zero(t, held())
		}))
		require.Equal(t, 1, held())
		s.Delete(n)
		require.Zero(t, held())
	})
}

// A query is not crowded by itself, but by another one, also while that waits for stores.
func TestSlots_AreCrowdedByAnotherQuery(t *testing.T) {
	s, err := newSlotTracker("", 4, nil, nil)
	require.NoError(t, err)
	require.False(t, s.crowded())
	r := testRequests(1 << 30)
	ctx, end := r.begin(t.Context(), requestInfo{})
	defer end()
	first, err := s.Insert(ctx, "m")
	require.NoError(t, err)
	require.False(t, s.crowded())
	ctx, endSecond := r.begin(t.Context(), requestInfo{})
	defer endSecond()
	second, err := s.Insert(ctx, "m")
	require.NoError(t, err)
	require.True(t, s.crowded())
	require.NoError(t, accountOf(ctx).idle(ctx, func() { require.True(t, s.crowded()) }))
	s.Delete(second)
	require.False(t, s.crowded())
	s.Delete(first)
}
