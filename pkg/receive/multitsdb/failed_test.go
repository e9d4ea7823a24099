package multitsdb

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// breakTenant makes the directory of a tenant one that cannot be opened, until
// mend is called.
func breakTenant(t *testing.T, dir, id string) (mend func()) {
	wal := filepath.Join(dir, id, "wal")
	require.NoError(t, os.Rename(wal, wal+".away"))
	require.NoError(t, os.WriteFile(wal, nil, 0o600))
	return func() {
		require.NoError(t, os.Remove(wal))
		require.NoError(t, os.Rename(wal+".away", wal))
	}
}

// pauseUntil sets the end of the pauses of the tenants that failed.
func (d *DB) pauseUntil(end time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.slots {
		s.life.RetryAt = end
	}
}

// overdue ends the pauses.
func (d *DB) overdue() { d.pauseUntil(time.Time{}) }

// longPause makes sure that no pause ends by itself.
func (d *DB) longPause() { d.pauseUntil(time.Now().Add(time.Hour)) }

// Thanos takes names of tenants that are refused here. Their directories count as tenants that
// cannot be opened; directories without a TSDB do not.
func TestOpen_CountsDirectoriesThatCannotBeTenants(t *testing.T) {
	dir := t.TempDir()
	d := openDB(t, dir, nil)
	require.NoError(t, write(t, d, "a", float("x", time.Now().UnixMilli(), 1)))
	require.NoError(t, d.Close(t.Context()))
	require.NoError(t, os.CopyFS(filepath.Join(dir, `team\a`), os.DirFS(filepath.Join(dir, "a"))))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
	d = openDB(t, dir, nil)
	defer d.Close(t.Context())
	require.Equal(t, 1.0, d.failed())
	require.Len(t, d.Stats(), 1)
}

// A tenant that cannot be opened at the start does not stop other tenants, is not silently
// left out of answers, is not taken for one without data, and comes back.
func TestTenantThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().UnixMilli()
	d := openDB(t, dir, nil)
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, write(t, d, id, float("x", now, 1)))
	}
	before := dump(t, d)
	require.NoError(t, d.Close(t.Context()))
	mend := breakTenant(t, dir, "b")

	away := atomic.Bool{}
	d, _ = shipped(t, dir, &away, func(c *Config) { c.Retention = time.Millisecond })
	require.NoError(t, write(t, d, "a", float("x", now+1, 1)))
	require.InDelta(t, 1, d.failed(), 0)
	d.longPause()
	err := write(t, d, "b", float("x", now+1, 1))
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(err))
	require.ErrorContains(t, err, "tenant b")
	require.ErrorContains(t, err, "tried again in")
	reads := fanout.New(d.Stores, fanout.Config{Component: "receive", Logger: slog.New(slog.DiscardHandler)})
	warnings := func() (out []string) {
		set := reads.Select(t.Context(), &storeapi.Request{
			MinTime: 0, MaxTime: math.MaxInt64, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "x")},
		})
		n := 0
		for set.Next() {
			n++
		}
		require.NoError(t, set.Err())
		for _, w := range set.Warnings() {
			out = append(out, fmt.Sprint(w))
		}
		require.NoError(t, set.Close())
		require.Equal(t, 3-len(out), n)
		return out
	}
	w := warnings()
	require.Len(t, w, 1)
	require.Contains(t, w[0], "tenant b")
	stats := d.Stats()
	require.Equal(t, "b", stats[1].Tenant)
	require.Contains(t, stats[1].Error, "wal")
	require.Zero(t, stats[1].MaxTime)
	require.Equal(t, 1, d.Unshipped().Unopened)

	// It is far past its retention as far as anybody knows, and yet kept.
	d.overdue()
	require.ErrorContains(t, d.maintain(t.Context()), "tenant b")
	require.DirExists(t, filepath.Join(dir, "b", "wal.away"))
	mend()
	d.longPause()
	require.ErrorContains(t, write(t, d, "b", float("y", now, 1)), "tried again in", "not before its time")
	d.overdue()
	require.Empty(t, warnings(), "a query opens it")
	require.Zero(t, d.failed())
	require.NoError(t, write(t, d, "b", float("y", now, 1)))
	require.Len(t, dump(t, d), len(before)+2)
	require.Zero(t, d.Unshipped().Unopened)
}

// When no tenant can be opened, it is not their fault, and the process says so.
func TestNoTenantCanBeOpened(t *testing.T) {
	dir := t.TempDir()
	d := openDB(t, dir, nil)
	for _, id := range []string{"a", "b"} {
		require.NoError(t, write(t, d, id, float("x", time.Now().UnixMilli(), 1)))
	}
	require.NoError(t, d.Close(t.Context()))
	breakTenant(t, dir, "a")
	breakTenant(t, dir, "b")
	d = New(Config{Dir: dir}, slog.New(slog.DiscardHandler), nil)
	require.ErrorContains(t, d.Open(t.Context()), "none of 2 tenants can be opened")
	require.NoError(t, d.Close(context.WithoutCancel(t.Context())))
}

// The first write of a tenant that cannot be made fails, and is not tried with
// each request.
func TestTenantThatCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	d := openDB(t, dir, nil)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
	now := time.Now().UnixMilli()
	require.ErrorContains(t, write(t, d, "a", float("x", now, 1)), "not a directory")
	d.longPause()
	require.ErrorContains(t, write(t, d, "a", float("x", now, 1)), "tried again in")
	require.NoError(t, write(t, d, "b", float("x", now, 1)))
	require.NoError(t, os.Remove(filepath.Join(dir, "a")))
	d.overdue()
	require.NoError(t, write(t, d, "a", float("x", now, 1)))
	require.Zero(t, d.failed())
}

// Names of tenants that cannot be made are bounded as those that can, and
// forgotten.
func TestManyTenantsThatCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	d := openDB(t, dir, func(c *Config) { c.MaxTenants = func() int { return 3 } })
	now := time.Now()
	for i := range 5 {
		id := fmt.Sprint("t", i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, id), nil, 0o600))
		want := remotewrite.Unavailable
		if i >= 3 {
			want = remotewrite.LimitExceeded
		}
		require.Equal(t, want, remotewrite.KindOf(write(t, d, id, float("x", now.UnixMilli(), 1))), id)
	}
	require.InDelta(t, 3, d.failed(), 0)
	require.NoError(t, d.maintain(t.Context()))
	require.InDelta(t, 3, d.failed(), 0)
	d.pauseUntil(now.Add(-2 * time.Minute))
	require.NoError(t, d.maintain(t.Context()))
	require.Zero(t, d.failed())
	require.Empty(t, d.views(), "nothing is kept of them, their metadata neither")
	require.NoError(t, write(t, d, "fine", float("x", now.UnixMilli(), 1)))
}
