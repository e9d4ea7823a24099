package multitsdb

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/vfs"
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
		if free := vfs.FreeSpace(s.dir); free < s.min {
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

// freeBytes is the free space as a metric.
func (s *space) freeBytes() float64 {
	free := vfs.FreeSpace(s.dir)
	if free == math.MaxInt64 {
		return math.NaN()
	}
	return float64(free)
}
