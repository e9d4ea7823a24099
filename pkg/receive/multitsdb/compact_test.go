package multitsdb

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// ledger writes and remembers.
type ledger struct {
	t    *testing.T
	d    *DB
	mu   sync.Mutex
	want map[sampleID]bool // what was acknowledged
}

// acknowledged is what there must be now.
func (l *ledger) acknowledged() map[sampleID]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.want)
}

// put writes one sample of each series.
func (l *ledger) put(prefix string, series int, ts int64) {
	const batch = 1000
	for at := 0; at < series; at += batch {
		var all []prompb.TimeSeries
		for i := at; i < min(at+batch, series); i++ {
			all = append(all, float(fmt.Sprint(prefix, i), ts, float64(ts)))
		}
		l.write(all)
	}
}

func (l *ledger) write(series []prompb.TimeSeries) {
	require.NoError(l.t, write(l.t, l.d, "a", series...))
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range series {
		l.want[sampleID{s.Labels[0].Value, s.Samples[0].Timestamp}] = true
	}
}

// The head is compacted as the TSDB does it, while samples come in that are just
// new enough for it, and late ones. All are there at any moment.
func TestCompactionUnderLoad(t *testing.T) {
	var log bytes.Buffer
	d := New(Config{
		Dir: t.TempDir(), OutOfOrderWindow: 2 * time.Hour, MinBlockDuration: 10 * time.Second,
	}, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	require.NoError(t, d.Open(t.Context()))
	l := &ledger{t: t, d: d, want: map[sampleID]bool{}}
	now := time.Now().Truncate(10*time.Second).Add(-10*time.Minute).UnixMilli() + 1000
	l.put("s", 100, now)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				require.NoError(t, d.maintain(t.Context()))
			}
		}
	})
	wg.Go(func() {
		for reads := 0; ; reads++ {
			select {
			case <-stop:
				t.Log("reads:", reads)
				return
			default:
				want := l.acknowledged()
				require.Zero(t, lost(t, d, want), "of %d, while it is compacted", len(want))
			}
		}
	})
	for i := range int64(600) {
		now += 250
		l.put("s", 100, now)
		// As old as the head takes in order, and older.
		l.put(fmt.Sprint("old", i), 10, now-4_999)
		l.put("late", 10, now-(i*7919)%20_000)
	}
	close(stop)
	wg.Wait()
	require.NoError(t, d.maintain(t.Context()))
	require.Zero(t, lost(t, d, l.want))
	require.Greater(t, len(d.opened("a").db.Blocks()), 10)
	require.NotContains(t, log.String(), "Compactions disabled")
	require.NoError(t, d.Close(t.Context()))
}

// Blocks longer than the shortest are made of those, when that is wanted.
func TestBlocksAreMerged(t *testing.T) {
	d := openDB(t, t.TempDir(), func(c *Config) {
		c.MinBlockDuration, c.MaxBlockDuration = 10*time.Second, 30*time.Second
	})
	l := &ledger{t: t, d: d, want: map[sampleID]bool{}}
	now := time.Now().Truncate(30 * time.Second).Add(-10 * time.Minute).UnixMilli()
	for i := range int64(200) {
		l.put("s", 10, now+i*1000)
		if i%20 == 0 {
			require.NoError(t, d.maintain(t.Context()))
		}
	}
	require.NoError(t, d.maintain(t.Context()))
	longest := int64(0)
	for _, b := range d.opened("a").db.Blocks() {
		longest = max(longest, b.MaxTime()-b.MinTime())
	}
	require.Equal(t, int64(30_000), longest)
	require.Zero(t, lost(t, d, l.want))
}
