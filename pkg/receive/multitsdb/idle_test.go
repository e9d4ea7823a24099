package multitsdb

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// ask counts the series of a tenant in a range of time.
func ask(t testing.TB, d *DB, id string, mint, maxt int64) (n int) {
	for _, s := range d.Stores() {
		if i := s.Info(); i.LabelSets[0].Get("tenant_id") != id || mint > i.MaxTime || maxt < i.MinTime {
			continue
		}
		set := s.Select(t.Context(), &storeapi.Request{
			MinTime: mint, MaxTime: maxt, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
		})
		for set.Next() {
			n++
		}
		if err := set.Err(); err != nil {
			t.Errorf("query: %v", err)
		}
		if err := set.Close(); err != nil {
			t.Errorf("end of a query: %v", err)
		}
	}
	return n
}

func idleTenants(d *DB) (out []string) {
	for _, s := range d.Stats() {
		if s.Idle {
			out = append(out, s.Tenant)
		}
	}
	return out
}

func TestIdleTenant_IsClosedAndReopened(t *testing.T) {
	var away atomic.Bool
	dir := t.TempDir()
	d, _ := shipped(t, dir, &away, nil)
	now := time.Now()
	// From the beginning of a block, so that all are over by now at any time of day.
	old := now.Truncate(2 * time.Hour).Add(-6 * time.Hour).UnixMilli()
	for i := range int64(12) {
		require.NoError(t, write(t, d, "a", float("x", old+i*20*60_000, float64(i)), float(fmt.Sprint("y", i), old+i*20*60_000, 1)))
	}
	require.NoError(t, write(t, d, "a", float("x", old+10*20*60_000+7, 1)), "out of order")
	require.NoError(t, write(t, d, "busy", float("x", now.UnixMilli(), 1)))
	require.NoError(t, d.SetMetadata("a", metadataOf(t, "x", "its help")))
	before := dump(t, d)
	later := now.Add(2 * time.Hour)
	tn := d.opened("a")
	require.NoError(t, d.closeIdle(tn, later))
	require.Empty(t, idleTenants(d), "its head has samples")
	away.Store(true)
	require.Error(t, d.Flush(t.Context(), "a"))
	require.NoError(t, d.closeIdle(tn, later))
	require.Empty(t, idleTenants(d), "its blocks are on this node alone")
	away.Store(false)
	require.NoError(t, d.sync(t.Context()))
	require.NoError(t, d.closeIdle(tn, now))
	require.Empty(t, idleTenants(d), "it was used just now")

	q, err := onDemand{d, "a"}.ChunkQuerier(old, old)
	require.NoError(t, err)
	require.NoError(t, d.closeIdle(tn, later))
	require.Empty(t, idleTenants(d), "it is being read")
	require.NoError(t, q.Close())

	require.NoError(t, d.maintain(t.Context()), "no tenant is closed that was just used")
	require.Empty(t, idleTenants(d))
	require.NoError(t, d.closeIdle(tn, later))
	require.Equal(t, []string{"a"}, idleTenants(d))
	require.NoError(t, d.closeIdle(tn, later), "again")
	require.Zero(t, d.Unshipped().Blocks)
	for _, name := range []string{"wal", "wbl", "chunks_head"} {
		require.NoDirExists(t, filepath.Join(dir, "a", name))
	}

	// It is still listed, and stays closed for queries of other times.
	stats := d.Stats()
	require.Equal(t, "a", stats[0].Tenant)
	require.Equal(t, old, stats[0].MinTime)
	require.GreaterOrEqual(t, stats[0].MaxTime, old+11*20*60_000)
	require.Len(t, d.Stores(), 2)
	require.Zero(t, ask(t, d, "a", now.UnixMilli()-1000, math.MaxInt64))
	q, err = onDemand{d, "a"}.ChunkQuerier(0, old-1)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	require.NoError(t, d.SetMetadata("a", metadataOf(t, "z", "more help")))
	require.Equal(t, []string{"a"}, idleTenants(d))
	require.NoError(t, d.Flush(t.Context(), ""))
	meta, _, err := d.Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Len(t, meta, 2, "metadata is kept")

	require.Equal(t, before, dumpBoth(t, d, len(before)), "a query opens it")
	require.Empty(t, idleTenants(d))
	tn = d.opened("a")
	require.Zero(t, tn.db.Head().NumSeries(), "nothing is read from logs a second time")
	require.NoError(t, d.closeIdle(tn, later))
	require.Equal(t, []string{"a"}, idleTenants(d))
	require.NoError(t, write(t, d, "a", float("x", now.UnixMilli(), 99)), "a write opens it")
	require.Empty(t, idleTenants(d))
	require.Len(t, dump(t, d), len(before)+1)
}

// dumpBoth is dump of both tenants, which it opens.
func dumpBoth(t *testing.T, d *DB, want int) []string {
	out := dump(t, d)
	require.Len(t, out, want)
	return out
}

// After the failure of each step, the write-ahead log exists as long as a log exists
// that needs it, and a log exists as a whole or not at all.
func TestRemoveLogs_LeavesLogsThatCanBeReplayed(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		for _, log := range logDirs(dir) {
			require.NoError(t, os.MkdirAll(log, 0o750))
			for _, segment := range []string{"00000001", "00000002"} {
				require.NoError(t, os.WriteFile(filepath.Join(log, segment), nil, 0o600))
			}
		}
		_ = removeLogs(fsys, dir)
		var left []string
		for _, log := range logDirs(dir) {
			if segments, err := os.ReadDir(log); err == nil {
				require.Len(t, segments, 2, log)
				left = append(left, filepath.Base(log))
			}
		}
		require.True(t, len(left) == 0 || left[0] == "wal", "%v", left)
		require.NoError(t, removeLogs(vfs.OS(), dir))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	})
}

func metadataOf(t *testing.T, name, help string) [][]byte {
	m := prompb.MetricMetadata{MetricFamilyName: name, Help: help, Type: prompb.MetricMetadata_GAUGE}
	raw, err := m.Marshal()
	require.NoError(t, err)
	return [][]byte{raw}
}

func TestIdleTenant_SurvivesRestart(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	d := openDB(t, dir, nil)
	require.NoError(t, write(t, d, "a", float("x", now.UnixMilli()-1000, 1)))
	require.NoError(t, d.Flush(t.Context(), ""))
	require.NoError(t, d.closeIdle(d.opened("a"), now.Add(2*time.Hour)))
	require.Equal(t, []string{"a"}, idleTenants(d))
	require.Equal(t, 1, d.Unshipped().Blocks, "without a bucket everything is here alone")
	require.NoError(t, d.Close(t.Context()))
	require.ErrorIs(t, write(t, d, "a", float("x", now.UnixMilli(), 1)), errClosed)

	d = openDB(t, dir, nil)
	require.NoError(t, d.closeIdle(d.opened("a"), now.Add(59*time.Minute)))
	require.Empty(t, idleTenants(d))
	require.NoError(t, d.closeIdle(d.opened("a"), now.Add(time.Hour)))
	require.Equal(t, []string{"a"}, idleTenants(d), "it need not be idle for long once more")
	require.Len(t, dump(t, d), 1)
	require.LessOrEqual(t, d.opened("a").lastWrite.Load(), now.UnixMilli(), "its retention does not begin again")
	require.NoError(t, write(t, d, "a", float("x", now.UnixMilli(), 1)))
	require.Len(t, dump(t, d), 2)
}

func TestIdleTenant_IsRemovedPastItsRetention(t *testing.T) {
	var keep atomic.Int64
	keep.Store(int64(1000 * time.Hour))
	d := openDB(t, t.TempDir(), func(c *Config) {
		c.OutOfOrderWindow = 24 * time.Hour
		c.TenantRetention = func(string) (time.Duration, bool) { return time.Duration(keep.Load()), true }
	})
	now := time.Now()
	for i := range 5 {
		require.NoError(t, write(t, d, "a", float("x", now.Add(-time.Duration(i)*2*time.Hour).UnixMilli(), 1)))
	}
	require.NoError(t, d.SetMetadata("a", metadataOf(t, "x", "help")))
	fall := func() view {
		require.NoError(t, d.Flush(t.Context(), ""))
		require.NoError(t, d.closeIdle(d.opened("a"), now.Add(2*time.Hour)))
		require.Equal(t, []string{"a"}, idleTenants(d))
		return d.views()[0]
	}
	s := fall()
	require.Len(t, s.idle.blocks, 5)
	require.NoError(t, d.maintainIdle(s, now))
	require.Equal(t, []string{"a"}, idleTenants(d))

	// A shorter retention opens it, so that its TSDB deletes what is too old.
	keep.Store(int64(4 * time.Hour))
	require.NoError(t, d.maintainIdle(s, now))
	require.Empty(t, idleTenants(d))
	require.Less(t, len(d.opened("a").db.Blocks()), 5)
	s = fall()

	require.NoError(t, d.maintainIdle(s, now.Add(3*time.Hour)))
	require.Equal(t, []string{"a"}, idleTenants(d))
	require.NoError(t, d.maintainIdle(s, now.Add(5*time.Hour)))
	require.Empty(t, d.Stats())
	require.NoDirExists(t, filepath.Join(d.cfg.Dir, "a"))
	meta, _, err := d.Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Empty(t, meta)
	require.NoError(t, d.maintainIdle(s, now.Add(5*time.Hour)), "it has gone already")

	// A query that found the tenant before makes no new one.
	q, err := onDemand{d, "a"}.ChunkQuerier(0, math.MaxInt64)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	require.NoDirExists(t, filepath.Join(d.cfg.Dir, "a"))
	require.NoError(t, write(t, d, "a", float("x", now.UnixMilli(), 1)), "it comes back with its next write")
}

// Writes, queries, flushes and closings of one tenant at once have no error, and all
// acknowledged samples are there.
func TestIdleTenant_IsClosedAmongWritesAndQueries(t *testing.T) {
	var away atomic.Bool
	d, _ := shipped(t, t.TempDir(), &away, func(c *Config) { c.OutOfOrderWindow = 24 * time.Hour })
	const writers, rounds, each = 4, 6, 5
	start := time.Now().Add(-time.Hour).UnixMilli()
	var around sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	again := func(f func()) {
		around.Go(func() {
			for ctx.Err() == nil {
				f()
				runtime.Gosched()
			}
		})
	}
	for range 2 {
		again(func() {
			if n := ask(t, d, "a", start, math.MaxInt64); n > writers+2 {
				t.Errorf("%d series", n)
			}
		})
	}
	again(func() {
		if err := d.Flush(ctx, "a"); err != nil && ctx.Err() == nil {
			t.Errorf("flush: %v", err)
		}
	})
	var closed atomic.Int64
	again(func() {
		for _, tn := range d.all() {
			if err := d.closeIdle(tn, time.Now().Add(2*time.Hour)); err != nil {
				t.Errorf("close: %v", err)
			}
			if tn.closed.Load() {
				closed.Add(1)
			}
		}
		_, _, _ = d.Stats(), d.Unshipped(), d.Cardinality("", 5)
		for _, v := range d.views() {
			if v.tenant != nil {
				continue
			}
			if err := d.maintainIdle(v, time.Now()); err != nil {
				t.Errorf("maintain: %v", err)
			}
		}
	})
	for round := range int64(rounds) {
		var work sync.WaitGroup
		for w := range int64(writers) {
			work.Go(func() {
				for i := range int64(each) {
					ts := start + (round*each+i)*1000
					if err := write(t, d, "a", float(fmt.Sprint("w", w), ts, 1), float("once", ts+w, 1)); err != nil {
						t.Errorf("write: %v", err)
					}
				}
			})
		}
		work.Go(func() {
			app := d.Appendable("a").Appender(ctx)
			if _, err := app.Append(0, labels.FromStrings("__name__", "own", "job", "j"), start+round, 1); err != nil {
				t.Errorf("append: %v", err)
			}
			if err := app.Commit(); err != nil {
				t.Errorf("commit: %v", err)
			}
		})
		work.Wait()
		before := closed.Load()
		require.Eventually(t, func() bool { return closed.Load() > before }, 30*time.Second, time.Millisecond, "it is closed again and again")
	}
	stop()
	around.Wait()
	found := map[string]bool{}
	for _, line := range dump(t, d) {
		if strings.Contains(line, `"w`) || strings.Contains(line, `"once"`) {
			found[line] = true
		}
	}
	require.Len(t, found, 2*writers*rounds*each)
}

// The node serves a fan-out over all tenants, which announces the idle ones.
func TestFanout_OpensIdleTenantsForTheirTimesOnly(t *testing.T) {
	d := openDB(t, t.TempDir(), func(c *Config) { c.OutOfOrderWindow = 24 * time.Hour })
	now := time.Now()
	old := now.Add(-10 * time.Hour).UnixMilli()
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, write(t, d, id, float("x", now.UnixMilli(), 1), float("x_"+id, old, 1)))
	}
	require.NoError(t, write(t, d, "old", float("x_old", old, 1)))
	require.NoError(t, d.Flush(t.Context(), "old"))
	node := fanout.New(d.Stores, fanout.Config{Component: "receive"})
	fall := func() {
		require.NoError(t, d.closeIdle(d.opened("old"), now.Add(2*time.Hour)))
		require.Equal(t, []string{"old"}, idleTenants(d))
	}
	request := func(mint, maxt int64) *storeapi.Request {
		return &storeapi.Request{MinTime: mint, MaxTime: maxt, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "x.*")}}
	}
	count := func(r *storeapi.Request) (n int) {
		set := node.Select(t.Context(), r)
		for set.Next() {
			n++
		}
		require.NoError(t, set.Err())
		require.Empty(t, set.Warnings())
		require.NoError(t, set.Close())
		return n
	}
	values := func(r *storeapi.Request) []string {
		out, ws, err := node.LabelValues(t.Context(), "__name__", r)
		require.NoError(t, err)
		require.Empty(t, ws)
		return out
	}
	fall()
	info := node.Info()
	require.Len(t, info.LabelSets, 4)
	require.Equal(t, old, info.MinTime)
	require.Equal(t, int64(math.MaxInt64), info.MaxTime)
	require.Equal(t, 3, count(request(now.UnixMilli()-1000, math.MaxInt64)))
	require.NotContains(t, values(request(now.UnixMilli()-1000, math.MaxInt64)), "x_old")
	require.Equal(t, []string{"old"}, idleTenants(d), "it has nothing from then")

	require.Equal(t, 4, count(request(old, old)))
	require.Empty(t, idleTenants(d))
	fall()
	require.Contains(t, values(request(old, old)), "x_old")
	require.Empty(t, idleTenants(d))
	fall()
	only := request(old, old)
	only.Matchers = append(only.Matchers, labels.MustNewMatcher(labels.MatchEqual, "tenant_id", "a"))
	require.Equal(t, 1, count(only))
	require.Equal(t, []string{"old"}, idleTenants(d), "another tenant was asked for")
}

// Tenants that are here, open or idle, can be written to at the limit.
func TestMaxTenants_RefusesNewOnes(t *testing.T) {
	most := 3
	d := openDB(t, t.TempDir(), func(c *Config) { c.MaxTenants = func() int { return most } })
	now := time.Now().UnixMilli()
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, write(t, d, id, float("x", now, 1)))
	}
	require.NoError(t, d.Flush(t.Context(), "b"))
	require.NoError(t, d.closeIdle(d.opened("b"), time.Now().Add(2*time.Hour)))
	require.Equal(t, []string{"b"}, idleTenants(d))
	err := write(t, d, "d", float("x", now, 1))
	require.Equal(t, remotewrite.LimitExceeded, remotewrite.KindOf(err))
	require.EqualError(t, err, "tenant d would be new, and this node is at its limit of 3 tenants (max_tenants)")
	require.Equal(t, remotewrite.LimitExceeded, remotewrite.KindOf(d.SetMetadata("e", metadataOf(t, "x", "help"))))
	require.NoDirExists(t, filepath.Join(d.cfg.Dir, "d"))
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, write(t, d, id, float("x", now+1, 1)))
		require.NoError(t, d.SetMetadata(id, metadataOf(t, "x", "help")))
	}
	most = 0
	require.NoError(t, write(t, d, "d", float("x", now, 1)))
}
