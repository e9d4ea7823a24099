// Package dirlock locks the work directory of a process, so that a second process
// with the same directory is refused instead of deleting files that the first one
// uses.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

const (
	// dirFile is locked exclusively by a role that owns the whole directory and
	// shared by roles that own a part of it.
	dirFile    = ".hindsight.lock"
	partPrefix = ".hindsight-"
	partSuffix = ".lock"
)

// ErrCannotLock is the error of a filesystem without locks, or one that takes no
// new file because it is full or read-only. A role that only deletes objects in
// a bucket can work without the lock.
var ErrCannotLock = errors.New("directory cannot be locked")

// InUseError is the error of a directory that another process holds.
type InUseError struct {
	Dir string
	// Holder describes the other process: its role and process id, as far as
	// they are known.
	Holder string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("directory %s is in use by %s; stop that process or give this one a directory of its own", e.Dir, e.Holder)
}

// ErrorID returns the id of the error.
func (e *InUseError) ErrorID() errorid.ID { return errorid.DirectoryInUse }

// Lock is a held lock. The kernel releases it when the process ends, also when it
// is killed, so that a lock is never stale. Its files stay; they are no lock.
type Lock struct{ files []*os.File }

// Whole locks dir for a role that owns everything in it. It fails with an
// *InUseError while any other role holds dir or a part of it, and with
// ErrCannotLock where files cannot be locked. dir is created.
func Whole(dir, role string) (*Lock, error) {
	return take(dir, role, syscall.LOCK_EX)
}

// Part locks the files of one role in dir, which roles that own other files may
// share; it excludes the same role and any Whole lock. Errors are those of Whole.
func Part(dir, role string) (*Lock, error) {
	return take(dir, role, syscall.LOCK_SH)
}

// Close releases the lock. A nil Lock holds nothing.
func (l *Lock) Close() error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	l.files = nil
	return errors.Join(errs...)
}

func take(dir, role string, how int) (_ *Lock, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("create directory %s to lock it: %w", dir, classify(err))
	}
	l := &Lock{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := l.add(dir, dirFile, how); err != nil {
		return nil, err
	}
	own := partPrefix + role + partSuffix
	if err := l.add(dir, own, syscall.LOCK_EX); err != nil {
		return nil, err
	}
	// The process id is for the message of a refused process only; the lock does
	// not depend on it.
	if f := l.files[len(l.files)-1]; f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return l, nil
}

// add locks one more file.
func (l *Lock) add(dir, name string, how int) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("lock directory %s: %w", dir, classify(err))
	}
	err = flock(f, how)
	switch {
	case err == nil:
		l.files = append(l.files, f)
		return nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = &InUseError{Dir: dir, Holder: holder(dir)}
	default:
		err = fmt.Errorf("lock directory %s: %w", dir, classify(err))
	}
	return errors.Join(err, f.Close())
}

// classify adds ErrCannotLock to errors of filesystems that cannot hold a lock.
func classify(err error) error {
	for _, no := range []syscall.Errno{
		syscall.ENOLCK, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS,
	} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", ErrCannotLock, err)
		}
	}
	return err
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// holder describes the roles whose lock is held now.
func holder(dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, partPrefix+"*"+partSuffix))
	if err != nil {
		return "another process"
	}
	var found []string
	for _, path := range files {
		if role, pid, ok := held(path); ok {
			found = append(found, fmt.Sprintf("another process (hindsight %s, pid %s)", role, pid))
		}
	}
	if len(found) == 0 {
		return "another process"
	}
	return strings.Join(found, " and ")
}

// held reports whether the file of a role is locked, and by which process.
func held(path string) (role, pid string, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", false
	}
	defer f.Close()
	if flock(f, syscall.LOCK_SH) == nil {
		return "", "", false
	}
	var b [32]byte
	n, _ := f.Read(b[:]) // an empty file names no process
	pid = strings.TrimSpace(string(b[:n]))
	if pid == "" {
		pid = "unknown"
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), partPrefix), partSuffix), pid, true
}
