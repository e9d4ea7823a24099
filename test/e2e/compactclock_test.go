package e2e

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// clockBlocks are blocks of the last days: a window to merge; one block that has been out of
// retention for half an hour, and one that will be in half an hour.
func clockBlocks(now time.Time, retention time.Duration) string {
	var s strings.Builder
	base := now.UnixMilli()/twoWeeks*twoWeeks/1000 - 14*24*3600
	for i := range int64(6) {
		from := base + 7200*i
		fmt.Fprintf(&s, "block w%d range=%ds..%ds labels={cluster=\"eu\"}\n  up{job=\"x\"} %ds..%ds/60s:1+1\n", i, from, from+7200, from, from+7200)
	}
	for name, end := range map[string]time.Duration{"expired": -30 * time.Minute, "kept": 30 * time.Minute} {
		to := now.Add(end - retention).Unix()
		fmt.Fprintf(&s, "block %s range=%ds..%ds labels={cluster=%q}\n  up{job=\"x\"} %ds..%ds/60s:1+1\n", name, to-7200, to, name, to-7200, to)
	}
	return s.String()
}

// partialBlock puts a directory without meta.json into a bucket that is a directory.
func partialBlock(t *testing.T, dir, name string, age time.Duration) ulid.ULID {
	t.Helper()
	id := blocktest.ID(name)
	file := filepath.Join(dir, id.String(), filepath.FromSlash(block.SegmentName(1)))
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o644))
	at := time.Now().Add(-age)
	require.NoError(t, os.Chtimes(file, at, at))
	return id
}

// Three compactors share a bucket that is a directory. The clock of one is right, that of
// another one is an hour ahead, and that of the third an hour behind; while they work, the two
// change places. Nothing is deleted early by the clock of the bucket: neither marked blocks,
// nor blocks within retention, nor an upload that may go on. Marked and expired blocks go.
func TestCompactFaults_ClockSkew(t *testing.T) {
	t.Parallel()
	const retention = 100 * 24 * time.Hour
	root := t.TempDir()
	dir := filepath.Join(root, "bucket")
	config := "type: FILESYSTEM\nconfig: {directory: " + dir + "}\n"
	bkt, err := provider.Open(t.Context(), []byte(config), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bkt.Close()) })
	now := time.Now()
	blocktest.Fill(t, bkt, clockBlocks(now, retention))
	uploading := partialBlock(t, dir, "uploading", 47*time.Hour+30*time.Minute)
	abandoned := partialBlock(t, dir, "abandoned", 48*time.Hour+30*time.Minute)
	expired, kept := blocktest.ID("expired"), blocktest.ID("kept")
	before := contentOf(t, dir, anyOrphan).withoutCopies()
	for key := range before {
		if strings.Contains(key, `"expired"`) {
			delete(before, key)
		}
	}

	require.NoError(t, os.WriteFile(filepath.Join(root, "bucket.yml"), []byte(config), 0o644))
	var procs []*harness.Process
	skews := []time.Duration{0, time.Hour, -time.Hour}
	for i, skew := range skews {
		name := fmt.Sprintf("skewed-%d", i)
		p, err := harness.Start(root, name, bin.Hindsight, "compact", "--wait", "--wait-interval=500ms", "--compact.cleanup-interval=500ms",
			"--consistency-delay=0s", "--compact.lease-duration=2s", "--delete-delay="+faultDelay.String(), "--downsampling.disable",
			"--retention.resolution-raw="+fmt.Sprintf("%dh", int(retention.Hours())), "--http-address=127.0.0.1:0",
			"--data-dir="+filepath.Join(root, name), "--objstore.config-file="+filepath.Join(root, "bucket.yml"))
		require.NoError(t, err)
		t.Cleanup(p.Kill)
		if err := p.SetClock(skew); errors.Is(err, harness.ErrNoClock) {
			t.Skip(err)
		} else {
			require.NoError(t, err)
		}
		procs = append(procs, p)
	}

	deleted := watchDeletions(t, dir, func() bool {
		live := blocksIn(t, dir)
		return len(live) == 4 && len(dirsOf(t, dir)) == 5 && slices.ContainsFunc(live, func(b string) bool { return strings.Contains(b, "samples=480") })
	}, func() {
		require.NoError(t, procs[1].SetClock(-time.Hour))
		require.NoError(t, procs[2].SetClock(time.Hour))
	})
	for _, p := range procs {
		require.True(t, p.Running(), p.Tail(20))
		require.NoError(t, p.Stop(20*time.Second))
	}
	require.Len(t, deleted, 5, "four sources and the block that is out of retention")
	require.Contains(t, deleted, expired)
	require.DirExists(t, filepath.Join(dir, kept.String()))
	require.DirExists(t, filepath.Join(dir, uploading.String()), "an upload of less than two days")
	require.NoDirExists(t, filepath.Join(dir, abandoned.String()))
	requirePreserved(t, dir, before, func(id ulid.ULID) bool { return id == uploading })
	// The clocks were wrong indeed: each line of a log has the time of its process. A process
	// may have written none before or after the change.
	for i, p := range procs[1:] {
		wrong := false
		for _, skew := range []time.Duration{time.Hour, -time.Hour} {
			for _, at := range []time.Time{now, now.Add(5 * time.Minute)} {
				wrong = wrong || strings.Contains(p.Output(), "ts="+at.Add(skew).UTC().Format("2006-01-02T15"))
			}
		}
		require.True(t, wrong, "process %d has written no line with a wrong clock", i+1)
	}
}

// watchDeletions looks at a bucket that is a directory until done is true, and calls midway
// after the first merge. It returns how long after its mark each deleted block went, and fails
// for one that went early.
func watchDeletions(t *testing.T, dir string, done func() bool, midway func()) map[ulid.ULID]time.Duration {
	t.Helper()
	marked, deleted := map[ulid.ULID]time.Time{}, map[ulid.ULID]time.Duration{}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		require.False(t, time.Now().After(end), "I9: the bucket has %v and %v", blocksIn(t, dir), dirsOf(t, dir))
		for _, id := range dirsOf(t, dir) {
			if info, err := os.Stat(filepath.Join(dir, id.String(), block.DeletionMarkFile)); err == nil && marked[id].IsZero() {
				marked[id] = info.ModTime()
				if midway != nil {
					midway()
					midway = nil
				}
			}
		}
		for id, at := range marked {
			_, err := os.Stat(filepath.Join(dir, id.String(), block.MetaFile))
			if _, known := deleted[id]; err == nil || known {
				continue
			}
			deleted[id] = time.Since(at)
			require.Greater(t, deleted[id], faultDelay, "I6: block %s was deleted early", id)
		}
		if midway == nil && done() {
			return deleted
		}
	}
}
