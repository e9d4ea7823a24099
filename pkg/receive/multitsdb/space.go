package multitsdb

import (
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// spaceInterval is how long the free space of a disk is taken for unchanged. It is short,
// because another process can fill a disk at once.
const spaceInterval = 50 * time.Millisecond

// space refuses writes while the disk has little free space. On a full disk the TSDB does not
// only fail to write its log: it ends the process when it cannot write a chunk of the
// head, and it cannot make blocks, which would give space back.
type space struct {
	dir string
	min int64 // bytes; 0 is none

	checked atomic.Int64 // Unix nanoseconds
	low     atomic.Int64 // free bytes when too few, plus one
}

// check returns an error while the disk has too little space.
func (s *space) check() error {
	if s.min <= 0 {
		return nil
	}
	now, last := time.Now().UnixNano(), s.checked.Load()
	if now-last >= int64(spaceInterval) && s.checked.CompareAndSwap(last, now) {
		low := int64(0)
		if free := freeSpace(s.dir); free < s.min {
			low = free + 1
		}
		s.low.Store(low)
	}
	if low := s.low.Load(); low > 0 {
		return remotewrite.Errorf(remotewrite.Unavailable,
			"the disk of %s has %d bytes free, less than %d (--tsdb.min-free-disk): queries go on, writes wait for space", s.dir, low-1, s.min)
	}
	return nil
}

// freeSpace returns the bytes that are free for this process, the largest number if that
// cannot be found out.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return math.MaxInt64
	}
	return int64(min(st.Bavail, math.MaxInt64/uint64(max(st.Bsize, 1)))) * st.Bsize //nolint:unconvert // not int64 on each system
}

// freeBytes is the free space as a metric.
func (s *space) freeBytes() float64 {
	free := freeSpace(s.dir)
	if free == math.MaxInt64 {
		return math.NaN()
	}
	return float64(free)
}
