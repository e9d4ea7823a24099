package headcompact

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openHead(t *testing.T, cfg Config) *Head {
	cfg.Pause = prometheus.NewHistogram(prometheus.HistogramOpts{})
	h := New(cfg)
	o := tsdb.DefaultOptions()
	o.MinBlockDuration, o.MaxBlockDuration = cfg.BlockDuration.Milliseconds(), cfg.MaxBlockDuration.Milliseconds()
	o.OutOfOrderTimeWindow, o.IsolationDisabled = 2*time.Hour.Milliseconds(), true
	o.NewCompactorFunc = h.NewCompactor()
	db, err := tsdb.Open(t.TempDir(), nil, nil, o, nil)
	require.NoError(t, err)
	h.Attach(db)
	t.Cleanup(func() {
		closed, err := h.Close(db.Close)
		require.NoError(t, err)
		require.True(t, closed)
		require.False(t, h.BeginWrite())
		require.NoError(t, h.Compact(t.Context()), "a closed TSDB has nothing to compact")
		require.NoError(t, h.Flush(t.Context()))
	})
	return h
}

// put writes the samples of one series, or one sample of each of many.
func put(t *testing.T, h *Head, names []string, times ...int64) {
	require.True(t, h.BeginWrite())
	defer h.EndWrite()
	app := h.db.Appender(t.Context())
	for _, name := range names {
		for _, at := range times {
			_, err := app.Append(0, labels.FromStrings("__name__", name), at, 1)
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
}

// count returns how many samples of different times there are of each series.
func count(t *testing.T, h *Head) map[string]int {
	out := map[string]int{}
	q, err := h.db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			out[set.At().Labels().Get("__name__")]++
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	require.NoError(t, q.Close())
	return out
}

func many(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(prefix, i))
	}
	return out
}

// A sender that catches up writes many out-of-order samples of a series at once,
// while those of all others are compacted. The series whose names come first are
// looked at first by the TSDB.
func TestCompactOutOfOrder_KeepsSamplesThatAreBeingWritten(t *testing.T) {
	h := openHead(t, Config{BlockDuration: 2 * time.Hour, MaxBlockDuration: 2 * time.Hour})
	now := time.Now().Truncate(2*time.Hour).UnixMilli() - 3600_000 // in the middle of a block
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	others := many("b", 20_000)
	for round := range rounds {
		early := many(fmt.Sprint("a", round, "_"), 300)
		put(t, h, others, now, now-1000)
		put(t, h, early, now)
		var wg sync.WaitGroup
		begun := make(chan struct{})
		wg.Go(func() { close(begun); require.NoError(t, h.compactOutOfOrder(t.Context())) })
		<-begun
		var times []int64
		for k := range int64(40) { // more than one chunk
			times = append(times, now-5000+10*k)
		}
		for _, name := range early {
			put(t, h, []string{name}, times...)
		}
		wg.Wait()
		got := count(t, h)
		for _, name := range early {
			require.Equal(t, 41, got[name], "round %d, series %s", round, name)
		}
		require.Equal(t, 2*(round+1), got["b7"])
		now += 60_000
	}
}

func TestBorder_IsAfterTheTime(t *testing.T) {
	h := New(Config{BlockDuration: time.Second})
	for at, want := range map[int64]int64{0: 1000, 999: 1000, 1000: 2000, -1: 0, -1000: 0, -1001: -1000, -2000: -1000} {
		require.Equal(t, want, h.border(at), "%d", at)
	}
}

func TestCloseIf_WaitsForWritesAndAsksAtTheEnd(t *testing.T) {
	h := openHead(t, Config{BlockDuration: 2 * time.Hour, MaxBlockDuration: 2 * time.Hour})
	require.True(t, h.BeginWrite())
	written := false
	done := make(chan bool)
	go func() {
		closed, err := h.CloseIf(func() bool { return !written }, func() error { return nil })
		if err != nil {
			t.Error(err)
		}
		done <- closed
	}()
	written = true
	h.EndWrite()
	require.False(t, <-done, "the condition is evaluated after the write")
	require.True(t, h.BeginWrite())
	h.EndWrite()
}

func TestCloseIf_DoesNothingDuringACompaction(t *testing.T) {
	h := openHead(t, Config{BlockDuration: 2 * time.Hour, MaxBlockDuration: 2 * time.Hour})
	put(t, h, []string{"a"}, time.Now().UnixMilli())
	q, err := h.db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	flushed := make(chan error)
	go func() { flushed <- h.Flush(t.Context()) }() // waits for the querier to be closed
	require.Eventually(t, func() bool {
		if !h.compacting.TryLock() {
			return true
		}
		h.compacting.Unlock()
		return false
	}, 10*time.Second, time.Millisecond)
	closed, err := h.CloseIf(func() bool { return true }, func() error { return nil })
	require.NoError(t, err)
	require.False(t, closed)
	require.NoError(t, q.Close())
	require.NoError(t, <-flushed)
}
