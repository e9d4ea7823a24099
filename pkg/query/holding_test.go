package query

import (
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// thanosQuerier is a store whose answers the fan-out has to hold.
type thanosQuerier struct{ storeapi.Store }

func (s thanosQuerier) Info() storeapi.Info {
	info := s.Store.Info()
	info.Component, info.SupportsSortWithout = "query", false
	return info
}

// Series that a fan-out holds count for the limits and the memory of the query, and
// their memory is given back.
func TestHolding_CountsForTheQuery(t *testing.T) {
	budget := newMemoryBudget(64<<20, nil)
	for _, c := range []struct {
		limits fetchLimits
		flag   string
	}{
		{fetchLimits{Series: 2000}, "--query.max-fetched-series"},
		{fetchLimits{Chunks: 2000}, "--query.max-fetched-chunks"},
		{fetchLimits{Series: 4000, Chunks: 8000}, ""},
	} {
		many := newManyStore(t, 2000, 2)
		store := fanout.New(func() []storeapi.Store { return []storeapi.Store{thanosQuerier{many}} }, fanout.Config{})
		ctx, end := withAccount(t, budget, c.limits)
		st := NewQueryable(store, replicaConfig()).streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
		n := drained(st)
		if c.flag == "" {
			require.NoError(t, st.Err())
			require.Equal(t, 2000, n)
			require.Greater(t, budget.peak, int64(4000*(seriesOverhead+2*chunkOverhead)))
		} else {
			require.ErrorIs(t, st.Err(), limit.ErrExceeded)
			require.ErrorContains(t, st.Err(), c.flag)
			require.Zero(t, accountOf(ctx).series, "the limit is met before the first series")
		}
		require.NoError(t, st.Close())
		require.Equal(t, budget.used, accountOf(ctx).credit)
		end()
		require.Zero(t, budget.used)
	}
}
