package compact_test

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// TestRunOnce_SurvivesEachDiskFault lets each operation on the work directory fail: once, as on
// a disk that is full for a moment, and from then on, as of a device that is broken. The bucket
// has no half block and no new garbage, no block is quarantined for the fault of the disk, no
// file stays open, and the next pass arrives where an undisturbed one does.
func TestRunOnce_SurvivesEachDiskFault(t *testing.T) {
	start := blocktest.Bucket(t, crashBucket())
	want := copyBucket(t, start)
	flags := append([]string{"--compact.merge-memory=1MiB"}, crashFlags...)
	counting := faultfs.New(vfs.OS(), 0, faultfs.Once).CountReads()
	require.NoError(t, diskCompactor(t, t.TempDir(), want, counting, nil, flags).RunOnce(t.Context()))
	require.Zero(t, counting.OpenFiles())
	wantLive, wantContent, objects := live(t, want), content(t, want), blocksIn(t, want)
	t.Logf("%d operations on the disk", counting.Changes())

	step := 5
	if os.Getenv("HINDSIGHT_TEST_EXHAUSTIVE") != "" {
		step = 1
	}
	for n := 1; n <= counting.Changes(); n += step {
		for mode, errno := range map[faultfs.Mode]syscall.Errno{faultfs.Once: syscall.ENOSPC, faultfs.Onwards: syscall.EIO} {
			b, dir, reg := copyBucket(t, start), t.TempDir(), prometheus.NewRegistry()
			fsys := faultfs.New(vfs.OS(), n, mode).CountReads().FailWith(errno)
			c := diskCompactor(t, dir, b, fsys, reg, flags)
			err := c.RunOnce(t.Context())
			what := fsys.Failed() + ", " + mode.String()
			require.NotEmpty(t, fsys.Failed())
			// The removal of the directory of a job that has ended, and a second block of a merge,
			// which a job of its own makes later, fail no pass.
			if err != nil {
				require.ErrorIs(t, err, errno, what)
				require.True(t, errors.Is(err, faultfs.ErrInjected), what)
			}
			require.Zero(t, fsys.OpenFiles(), what)
			require.Empty(t, reasonsOf(t, reg, "hindsight_compact_block_quarantined", "hindsight_compact_block_skipped"), what)
			requireWhole(t, b, what)
			if mode == faultfs.Onwards {
				c = diskCompactor(t, dir, b, vfs.OS(), nil, flags)
			}
			require.NoError(t, c.RunOnce(t.Context()), what)
			require.Equal(t, wantLive, live(t, b), what)
			require.Equal(t, wantContent, content(t, b), what)
			require.Equal(t, objects, blocksIn(t, b), "%s: no object is left", what)
		}
	}
}

func diskCompactor(t *testing.T, dir string, b bucket.Bucket, fsys vfs.FS, reg prometheus.Registerer, args []string) *compact.Compactor {
	t.Helper()
	cfg := config(t, args...)
	cfg.DataDir = dir
	c, err := compact.New(cfg, compact.Deps{Bucket: b, FS: fsys, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)
	return c
}

// requireWhole checks that each block with a meta.json is complete and sound, and that there
// is nothing of any other block.
func requireWhole(t *testing.T, b bucket.Bucket, what string) {
	t.Helper()
	v := poll(t, b)
	require.Empty(t, v.Partial, what)
	for id := range v.Metas {
		dir := t.TempDir()
		_, err := block.Download(t.Context(), b, id, dir, block.DownloadConfig{})
		require.NoError(t, err, what)
		_, err = block.Verify(t.Context(), dir)
		require.NoError(t, err, what)
	}
	for _, name := range list(t, b) {
		if dir, _, ok := strings.Cut(name, "/"); ok && dir != "hindsight" {
			_, err := b.Stat(t.Context(), dir+"/"+block.MetaFile)
			require.NoError(t, err, "%s: %s", what, name)
		}
	}
}
