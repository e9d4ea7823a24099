package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk mounts a file system of a size such as 8m, which needs root.
func smallDisk(t *testing.T, dir, size string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("mounting a small disk needs root")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
}

// fillDisk writes until the disk is full.
func fillDisk(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	require.NoError(t, err)
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			chunk = chunk[:len(chunk)/2]
		}
	}
}

// The disk of one node is full: the others accept the writes; the node keeps running,
// acknowledges no write that it does not store, and accepts writes again when there is
// space.
func TestReceiveDiskFull(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	smallDisk(t, disk, "800m")
	r := newRing(t, "disk_full_total", "receive-1", "receive-2", "receive-3")
	r.Extra["receive-2"] = append(r.Extra["receive-2"], "--tsdb.path="+filepath.Join(disk, "tsdb"))
	r.load()
	r.progress(500)
	filler := filepath.Join(disk, "filler")
	fillDisk(t, filler)
	r.progress(3000)
	require.True(t, r.Proc("receive-2").Running(), "a full disk must not end the node")
	require.NoError(t, os.Remove(filler))
	r.progress(1000)
	r.check()
	// The node has space again, so it stops in order and writes a block.
	require.NoError(t, r.Proc("receive-2").Stop(30*time.Second))
}
