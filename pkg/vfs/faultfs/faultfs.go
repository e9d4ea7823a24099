// Package faultfs is a file system for tests whose n-th change fails.
package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// ErrInjected is the error of an operation that was chosen to fail.
var ErrInjected = errors.New("injected fault")

// Mode says what fails.
type Mode int

const (
	// Once fails one operation; those after it succeed, as when a disk is full
	// for a moment.
	Once Mode = iota
	// Onwards fails an operation and all changes after it, as when the process is
	// killed there. Earlier writes stay, synced or not.
	Onwards
)

func (m Mode) String() string {
	if m == Once {
		return "once"
	}
	return "onwards"
}

// FS counts the operations that change something: creating, writing,
// truncating, syncing, renaming, removing, and making directories. One of them
// fails. A write that fails has written half of its bytes.
type FS struct {
	inner vfs.FS
	at    int
	mode  Mode
	errno error // nil has an error that no operating system has
	reads bool

	mu     sync.Mutex
	n      int
	open   int
	failed string // the operation that failed first
}

// New returns a file system whose change number at, from 1 on, fails. With 0,
// none does.
func New(inner vfs.FS, at int, mode Mode) *FS { return &FS{inner: inner, at: at, mode: mode} }

// FailWith makes the failures those of the operating system, such as syscall.ENOSPC: a
// *fs.PathError that is ErrInjected too. It is called before the first operation.
func (f *FS) FailWith(errno syscall.Errno) *FS {
	f.errno = errno
	return f
}

// CountReads also makes reads of open files fail, and counts them as changes. It is called
// before the first operation.
func (f *FS) CountReads() *FS {
	f.reads = true
	return f
}

// OpenFiles is the number of files that are open.
func (f *FS) OpenFiles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// Changes is the number of changes so far.
func (f *FS) Changes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Failed names the operation that failed first; empty when none did.
func (f *FS) Failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// change counts one operation and returns its error.
func (f *FS) change(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.at == 0 || f.n < f.at || f.mode == Once && f.n > f.at {
		return nil
	}
	if f.failed == "" {
		f.failed = fmt.Sprintf("%s (change %d)", op, f.n)
	}
	if f.errno != nil {
		return fmt.Errorf("%w: %w", ErrInjected, &fs.PathError{Op: op, Path: name, Err: f.errno})
	}
	return fmt.Errorf("%s %s: %w", op, name, ErrInjected)
}

// maxChanges bounds the changes that EachFailure makes fail.
const maxChanges = 10_000

// EachFailure calls run as a subtest for each change that run makes, and each
// mode, with a file system on which this change fails. It ends when a run has
// fewer changes than the number that was to fail. run makes the state, uses the
// file system, and checks what is left with vfs.OS().
func EachFailure(t *testing.T, run func(t *testing.T, fsys *FS)) {
	t.Helper()
	for _, mode := range []Mode{Once, Onwards} {
		for n := 1; ; n++ {
			if n > maxChanges {
				t.Fatalf("more than %d changes", maxChanges)
			}
			fsys := New(vfs.OS(), n, mode)
			ok := t.Run(fmt.Sprintf("%s-%d", mode, n), func(t *testing.T) {
				run(t, fsys)
				if op := fsys.Failed(); op != "" && t.Failed() {
					t.Logf("the operation that failed: %s", op)
				}
			})
			if !ok || fsys.Failed() == "" {
				if n == 1 && ok {
					t.Fatal("run changed nothing")
				}
				break
			}
		}
	}
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	return f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// OpenFile implements vfs.FS. It counts as a change when it may create a file.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		if err := f.change("create", name); err != nil {
			return nil, err
		}
	}
	inner, err := f.inner.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return &file{File: inner, fs: f}, nil
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) { return f.OpenFile(name, os.O_RDONLY, 0) }

// ReadFile implements vfs.FS.
func (f *FS) ReadFile(name string) ([]byte, error) { return f.inner.ReadFile(name) }

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) { return f.inner.ReadDir(name) }

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.inner.Stat(name) }

// Rename implements vfs.FS.
func (f *FS) Rename(oldname, newname string) error {
	if err := f.change("rename", oldname); err != nil {
		return err
	}
	return f.inner.Rename(oldname, newname)
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	if err := f.change("remove", name); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

// RemoveAll implements vfs.FS.
func (f *FS) RemoveAll(name string) error {
	if err := f.change("remove all of", name); err != nil {
		return err
	}
	return f.inner.RemoveAll(name)
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(name string, perm fs.FileMode) error {
	if err := f.change("make directory", name); err != nil {
		return err
	}
	return f.inner.MkdirAll(name, perm)
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(name string) error {
	if err := f.change("sync directory", name); err != nil {
		return err
	}
	return f.inner.SyncDir(name)
}

type file struct {
	vfs.File
	fs *FS
}

func (f *file) Close() error {
	err := f.File.Close()
	if !errors.Is(err, fs.ErrClosed) {
		f.fs.mu.Lock()
		defer f.fs.mu.Unlock()
		f.fs.open--
	}
	return err
}

func (f *file) Read(b []byte) (int, error) {
	if err := f.read(); err != nil {
		return 0, err
	}
	return f.File.Read(b)
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if err := f.read(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

func (f *file) read() error {
	if !f.fs.reads {
		return nil
	}
	return f.fs.change("read from", f.Name())
}

func (f *file) Write(b []byte) (int, error) {
	if err := f.fs.change("write to", f.Name()); err != nil {
		n, werr := f.File.Write(b[:len(b)/2])
		return n, errors.Join(err, werr)
	}
	return f.File.Write(b)
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.change("write to", f.Name()); err != nil {
		n, werr := f.File.WriteAt(b[:len(b)/2], off)
		return n, errors.Join(err, werr)
	}
	return f.File.WriteAt(b, off)
}

func (f *file) Truncate(size int64) error {
	if err := f.fs.change("truncate", f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) Sync() error {
	if err := f.fs.change("sync", f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}
