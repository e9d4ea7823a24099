package provider

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// uploadDir holds files that are being written. It lies in the bucket's
	// directory because a rename must not cross filesystems. No listing shows
	// it, and it exists only while something is being written.
	uploadDir = ".hindsight-uploads"
	// staleUpload is the age at which such a file belongs to a dead process,
	// where the filesystem has no locks that would tell.
	staleUpload = 24 * time.Hour
	// createTries bounds how often a file is created anew because another
	// process tidied up in between.
	createTries = 20
)

// uploads is the directory of files that are being written. Each file is locked
// by its writer, so that a file without a lock is what a dead process has left.
// The zero value with a dir is ready; it may be used concurrently.
type uploads struct {
	dir   string
	clean sync.Once
}

// create returns a new locked file. The caller renames or removes it, then calls
// tidy. The first call removes what dead processes have left.
func (u *uploads) create() (*os.File, error) {
	u.clean.Do(u.removeStale)
	var err error
	for range createTries {
		var f *os.File
		if err = os.MkdirAll(u.dir, 0o777); errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
			continue // removed while MkdirAll looked at what was in its way
		}
		if err != nil {
			return nil, err
		}
		if f, err = os.CreateTemp(u.dir, "*"); errors.Is(err, fs.ErrNotExist) {
			continue // the directory was removed as empty in between
		}
		if err != nil {
			return nil, err
		}
		if owned(f) {
			return f, nil
		}
		err = errors.Join(fs.ErrExist, f.Close())
	}
	return nil, err
}

// owned locks a file that was just created, and says whether it is still there:
// another process may have taken it for stale before it was locked.
func owned(f *os.File) bool {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false
	}
	now, serr := os.Stat(f.Name())
	mine, ferr := f.Stat()
	return serr == nil && ferr == nil && os.SameFile(now, mine)
}

// tidy removes the directory when nothing is being written.
func (u *uploads) tidy() {
	_ = os.Remove(u.dir) // not empty: others are writing
}

// removeStale removes files of dead processes. What cannot be removed stays.
func (u *uploads) removeStale() {
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		return // there is none, as a rule
	}
	for _, e := range entries {
		path := filepath.Join(u.dir, e.Name())
		if f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
			if stale(f) {
				_ = os.Remove(path)
			}
			_ = f.Close() // releases the lock after the removal
		}
	}
}

// stale says whether nobody writes to the file, which it locks.
func stale(f *os.File) bool {
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil:
		return true
	case errors.Is(err, syscall.EWOULDBLOCK):
		return false
	}
	info, err := f.Stat()
	return err == nil && time.Since(info.ModTime()) > staleUpload
}
