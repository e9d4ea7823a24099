package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// presence remembers that a directory had objects, and on which filesystem. With it, a
// directory whose volume was unmounted differs from an empty bucket: readers would forget its
// blocks, and writers would fill the disk below the mount point. The zero value is ready; it
// may be used concurrently.
type presence struct {
	// seen says that the directory had an object, and device is the filesystem that it was on
	// then.
	seen   atomic.Bool
	device atomic.Uint64
}

// found records that the directory root has an object.
func (p *presence) found(root string) {
	if p.seen.Load() {
		return
	}
	if info, err := os.Stat(root); err == nil {
		p.device.Store(device(info))
		p.seen.Store(true)
	}
}

// lost returns an error if the directory root had objects and does not exist any more, or is
// an empty one of another filesystem. The error is bucket.ErrGone, which is temporary.
func (p *presence) lost(root string) error {
	if !p.seen.Load() {
		return nil
	}
	info, err := os.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s had objects and does not exist: mount its volume again, or restart the program if it was removed on purpose", bucket.ErrGone, root)
	case err != nil:
		return fmt.Errorf("look at bucket directory %s: %w", root, mapFileErr(err))
	case device(info) == p.device.Load():
		return nil
	}
	entries, err := os.ReadDir(root)
	switch {
	case err != nil:
		return fmt.Errorf("look at bucket directory %s: %w", root, mapFileErr(err))
	case len(entries) == 0:
		return fmt.Errorf("%w: %s had objects and is empty now, on another filesystem: mount its volume again, or restart the program if that was done on purpose", bucket.ErrGone, root)
	}
	p.device.Store(device(info)) // the volume was mounted again
	return nil
}

// device is the number of the filesystem of a file.
func device(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev) //nolint:unconvert // of another type on other systems
	}
	return 0
}
