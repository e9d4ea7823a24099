package vfs

import (
	"math"

	"golang.org/x/sys/unix"
)

// FreeSpace returns the bytes of the disk of a directory that are free for this process, the
// largest number if that cannot be found out.
func FreeSpace(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return math.MaxInt64
	}
	size := int64(st.Bsize) //nolint:unconvert // not int64 on each system
	return int64(min(st.Bavail, math.MaxInt64/uint64(max(size, 1)))) * size
}
