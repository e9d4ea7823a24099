package multitsdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// smallDisk returns a directory on a file system of a few megabytes.
func smallDisk(t *testing.T) string {
	disk := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.MkdirAll(disk, 0o755))
	err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=300m")
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("mounting a small disk needs root")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	return disk
}

// fill writes a file until the disk is full.
func fill(t *testing.T, name string) {
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			chunk = chunk[:len(chunk)/2]
		}
	}
}

// A log that could not be written lacks series that the head has. Writes that
// are acknowledged when there is space again survive a kill all the same, late samples
// included, and the tenant answers queries while the disk is full.
func TestFullDisk_KeepsWhatIsAcknowledgedAfterwards(t *testing.T) {
	for _, n := range []int{1, 40, 300} { // series, of short and long names
		for _, pad := range []int{10, 2000} {
			t.Run(fmt.Sprintf("%d series of %d bytes", n, pad), func(t *testing.T) {
				disk := smallDisk(t)
				dir := filepath.Join(disk, "tsdb")
				d := openDB(t, dir, func(c *Config) { c.NoLockfile = true })
				base := time.Now().Add(-time.Minute).UnixMilli()
				want := map[sampleID]bool{}
				put := func(prefix string, ts int64) error {
					var batch []prompb.TimeSeries
					for i := range n {
						batch = append(batch, float(fmt.Sprint(prefix, i, strings.Repeat("x", pad)), ts, float64(ts)))
					}
					err := write(t, d, "a", batch...)
					for _, s := range batch {
						if err == nil {
							want[sampleID{s.Labels[0].Value, ts}] = true
						}
					}
					return err
				}
				require.NoError(t, put("old", base))
				fill(t, filepath.Join(disk, "filler"))
				failed := 0
				for i := range int64(20) {
					for _, err := range []error{put("old", base+i), put("old", base-1-i), put(fmt.Sprint("new", i), base+i)} {
						if err != nil {
							failed++
						}
					}
				}
				require.Zero(t, lost(t, d, want), "while the disk is full")
				require.NoError(t, os.Remove(filepath.Join(disk, "filler")))
				require.Eventually(t, func() bool { return put("old", base+100) == nil }, 10*time.Second, 100*time.Millisecond)
				for i := range int64(20) {
					require.NoError(t, put("old", base+101+i))
					require.NoError(t, put("old", base-100-i))
					require.NoError(t, put(fmt.Sprint("new", i), base+100+i))
				}
				t.Log(failed, "of 60 writes failed,", len(want), "samples acknowledged")
				require.Zero(t, lost(t, d, want), "before the kill")
				to := t.TempDir()
				require.NoError(t, os.CopyFS(to, os.DirFS(dir))) // a copy is what a kill leaves
				require.Zero(t, lost(t, openDB(t, to, func(c *Config) { c.NoLockfile = true }), want), "after the kill")
			})
		}
	}
}

// panics is a transaction of a TSDB that cannot write a chunk.
type panics struct{}

func (panics) Commit() error   { panic("preallocate: no space left on device") }
func (panics) Rollback() error { return nil }

// A commit that panics leaves locks, with which the tenant would hang for ever: the
// process ends, although handlers of requests recover panics.
func TestCommit_PanicEndsTheProcess(t *testing.T) {
	const child = "HINDSIGHT_TEST_PANIC"
	if os.Getenv(child) != "" {
		defer func() {
			t.Log("recovered:", recover())
			os.Exit(0)
		}()
		t.Log((&tenantDB{}).commit(panics{}))
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCommit_PanicEndsTheProcess$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 2, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "panic: commit to a TSDB: preallocate: no space left on device")
	require.Contains(t, string(out), "panics.Commit", "the stack of the commit")
}

// While the disk has too little space writes are refused, and queries are answered.
func TestMinFreeDisk_RefusesWrites(t *testing.T) {
	disk := smallDisk(t)
	d := openDB(t, filepath.Join(disk, "tsdb"), func(c *Config) { c.MinFreeDisk = 100 << 20 })
	now := time.Now().UnixMilli()
	require.NoError(t, write(t, d, "a", float("x", now, 1)))
	require.NoError(t, os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 220<<20), 0o600))
	d.space.checked.Store(0)
	err := write(t, d, "a", float("x", now+1, 1))
	require.ErrorContains(t, err, "(--tsdb.min-free-disk)")
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(err))
	require.Less(t, d.space.freeBytes(), float64(100<<20))
	require.Zero(t, lost(t, d, map[sampleID]bool{{"x", now}: true}))
	require.NoError(t, os.Remove(filepath.Join(disk, "filler")))
	d.space.checked.Store(0)
	require.NoError(t, write(t, d, "a", float("x", now+1, 1)))
}

// Blocks give space back, so a disk on which writes are still accepted has to take one: the
// TSDB reserves a whole segment before it writes the first chunk.
func TestSmallDisk_TakesBlocksWhileWritesAreAccepted(t *testing.T) {
	disk := smallDisk(t)
	d := openDB(t, filepath.Join(disk, "tsdb"), func(c *Config) { c.NoLockfile, c.MinFreeDisk = true, 256<<20 })
	now := time.Now().UnixMilli()
	require.NoError(t, write(t, d, "a", float("x", now, 1), float("y", now, 2)))
	require.NoError(t, d.Flush(t.Context(), "a"))
	blocks, err := filepath.Glob(filepath.Join(disk, "tsdb", "a", "01*"))
	require.NoError(t, err)
	require.Len(t, blocks, 1)
}
