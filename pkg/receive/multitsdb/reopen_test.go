package multitsdb

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
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

// The program's own metrics commit as writes do: none after a record could not be written,
// and theirs count as one, too.
func TestAppendable_SharesFailureOfLog(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	begin := func(ts int64) storage.Appender {
		app := d.Appendable("a").Appender(t.Context())
		_, err := app.Append(0, labels.FromStrings("__name__", "own", "job", "j"), ts, 1)
		require.NoError(t, err)
		return app
	}
	app := begin(now)
	d.opened("a").logFailed.Store(true)
	require.ErrorIs(t, app.Commit(), errLogFailed)
	require.NoError(t, begin(now+1).Commit(), "the tenant is opened again")
	require.Equal(t, 1, lost(t, d, map[sampleID]bool{{"own", now}: true, {"own", now + 1}: true}))

	app = begin(now + 2)
	before := d.opened("a")
	require.NoError(t, app.Rollback())
	app = begin(now + 3)
	require.NoError(t, app.(*gatedAppender).Appender.Rollback()) // its commit then fails
	require.Error(t, app.Commit())
	require.True(t, before.logFailed.Load())
	require.NoError(t, write(t, d, "a", float("x", now, 1)))
	require.NotSame(t, before, d.opened("a"))
}
