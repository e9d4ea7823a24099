package compact

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// localError says whether err is one of the operating system about a file of the work
// directory: a full disk, a removed file, a failing device. The block in the bucket
// may be sound.
func localError(err error) bool {
	var (
		path  *fs.PathError
		link  *os.LinkError
		call  *os.SyscallError
		errno syscall.Errno
	)
	return errors.As(err, &path) || errors.As(err, &link) || errors.As(err, &call) || errors.As(err, &errno)
}

// memoryFault says whether a recovered panic is a fault of mapped memory: the file was
// truncated, or its device failed. It needs debug.SetPanicOnFault in the goroutine;
// otherwise the fault ends the process.
func memoryFault(p any) (addr uintptr, ok bool) {
	f, ok := p.(interface{ Addr() uintptr })
	if !ok {
		return 0, false
	}
	return f.Addr(), true
}

// checkFiles refuses empty files. Mapping one would be an error of the operating
// system although the object in the bucket is empty.
func (r *blockReader) checkFiles(dir string) error {
	empty := func(why reason.Reason, rel string) error {
		info, err := os.Stat(filepath.Join(dir, rel))
		if err != nil {
			return fmt.Errorf("open block %s in the work directory: %w", r.meta.ULID, err)
		}
		if info.Size() == 0 {
			return r.corrupt(why, "%s is empty", rel)
		}
		return nil
	}
	segments, err := os.ReadDir(filepath.Join(dir, block.ChunksDir))
	if err != nil {
		return fmt.Errorf("open block %s in the work directory: %w", r.meta.ULID, err)
	}
	for _, s := range segments {
		if err := empty(reason.BlockSegmentCorrupt, filepath.Join(block.ChunksDir, s.Name())); err != nil {
			return err
		}
	}
	return empty(reason.BlockIndexCorrupt, block.IndexFile)
}
