package provider

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

const (
	// uploadDir holds files that are being written. It lies in the directory of
	// the bucket because a rename must not cross filesystems. Listings skip it, and
	// it exists only during uploads.
	uploadDir = ".hindsight-uploads"
	// staleUpload is the age above which such a file counts as left by a process
	// that died, on filesystems without locks.
	staleUpload = 24 * time.Hour
	// createTries bounds the attempts to create a file while other processes
	// remove the empty directory.
	createTries = 20
)

// uploads is the directory of files that are being written. Their writers lock
// them, so a file without a lock was left by a process that died. The zero value
// with fs and dir is ready; it may be used concurrently.
type uploads struct {
	fs    vfs.FS
	dir   string
	clean sync.Once
}

// upload is a file that is being written, and its lock.
type upload struct {
	vfs.File
	lock *os.File
}

// unlock ends the protection from other processes; the file was renamed or removed
// before.
func (u *upload) unlock() { _ = u.lock.Close() }

// create returns a new locked file. The caller closes it, renames or removes it,
// unlocks it, and calls tidy. The first call removes files that processes left when
// they died.
func (u *uploads) create() (*upload, error) {
	u.clean.Do(u.removeStale)
	var err error
	for range createTries {
		if err = u.fs.MkdirAll(u.dir, 0o777); errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
			continue // the directory was removed while MkdirAll looked at it
		}
		if err != nil {
			return nil, err
		}
		var f vfs.File
		if f, err = vfs.CreateTemp(u.fs, filepath.Join(u.dir, "upload"), 0o600); errors.Is(err, fs.ErrNotExist) {
			continue // the directory was removed as empty
		}
		if err != nil {
			return nil, err
		}
		if lock, ok := own(f); ok {
			return &upload{File: f, lock: lock}, nil
		}
		err = errors.Join(fs.ErrExist, f.Close())
	}
	return nil, err
}

// own locks a file that was just created, and says whether it still exists: another
// process may have removed it as stale before it was locked.
func own(f vfs.File) (lock *os.File, ok bool) {
	lock, err := os.Open(f.Name())
	if err != nil {
		return nil, false
	}
	if err := flock(lock); errors.Is(err, syscall.EWOULDBLOCK) {
		_ = lock.Close() // nothing was written to it
		return nil, false
	}
	now, serr := os.Stat(f.Name())
	mine, ferr := f.Stat()
	if serr == nil && ferr == nil && os.SameFile(now, mine) {
		return lock, true
	}
	_ = lock.Close() // nothing was written to it
	return nil, false
}

// flock locks a file, or fails with EWOULDBLOCK if it is locked.
func flock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// tidy removes the directory when no upload is running.
func (u *uploads) tidy() {
	_ = u.fs.Remove(u.dir) // it is not empty while others write
}

// removeStale removes files that processes left when they died. It ignores errors.
func (u *uploads) removeStale() {
	entries, err := u.fs.ReadDir(u.dir)
	if err != nil {
		return // it exists only during uploads
	}
	for _, e := range entries {
		path := filepath.Join(u.dir, e.Name())
		if f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
			if stale(f) {
				_ = u.fs.Remove(path)
			}
			_ = f.Close() // releases the lock after the removal
		}
	}
}

// stale says whether no process writes to the file, which it locks.
func stale(f *os.File) bool {
	switch err := flock(f); {
	case err == nil:
		return true
	case errors.Is(err, syscall.EWOULDBLOCK):
		return false
	}
	info, err := f.Stat()
	return err == nil && time.Since(info.ModTime()) > staleUpload
}
