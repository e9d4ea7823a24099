package multitsdb

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
)

// A query that needs the tenant once more while the tenant is closed to be opened again
// gets an error. If it waited, the closing and the query would wait for each other.
func TestReopening_RefusesSecondQuerierOfQuery(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	require.NoError(t, write(t, d, "a", float("x", now, 1)))
	querier := func() (func() error, error) {
		q, err := onDemand{d, "a"}.ChunkQuerier(math.MinInt64, math.MaxInt64)
		if err != nil {
			return nil, err
		}
		return q.Close, nil
	}
	closeFirst, err := querier()
	require.NoError(t, err)
	d.opened("a").logFailed.Store(true)
	written := make(chan error, 1)
	go func() { written <- write(t, d, "a", float("x", now+1, 1)) }()
	require.Eventually(t, func() bool { return d.look("a").life.State == lifecycle.Closing }, 10*time.Second, time.Millisecond)

	second := make(chan error, 1)
	go func() {
		_, err := querier()
		second <- err
	}()
	select {
	case err := <-second:
		require.ErrorIs(t, err, errReopening)
	case <-time.After(10 * time.Second):
		t.Error("the query waits for the closing, which waits for the query")
	}
	require.NoError(t, closeFirst())
	require.NoError(t, <-written)
	require.Zero(t, lost(t, d, map[sampleID]bool{{"x", now}: true, {"x", now + 1}: true}))
}
