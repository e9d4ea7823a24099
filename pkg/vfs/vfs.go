// Package vfs is the file system as the packages see it that keep state on disk:
// few operations, behind an interface, so that tests can make each one fail.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// FS is a file system. Names are paths of the operating system. Errors are those
// of package os: errors.Is with fs.ErrNotExist and fs.ErrExist works. All methods
// may be called concurrently.
type FS interface {
	// Create truncates or creates a file for writing and reading.
	Create(name string) (File, error)
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	ReadFile(name string) ([]byte, error)
	// ReadDir lists a directory in the order of the names.
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// Rename replaces newname if it exists. The change is durable after SyncDir
	// of both directories.
	Rename(oldname, newname string) error
	Remove(name string) error
	// RemoveAll removes a file or a tree. A missing one is no error.
	RemoveAll(name string) error
	MkdirAll(name string, perm fs.FileMode) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
}

// File is an open file. One goroutine uses it at a time, except for ReadAt and
// WriteAt, which may be called concurrently.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Sync makes the content durable.
	Sync() error
}

// OS returns the file system of the operating system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Create(name string) (File, error) {
	return osFS{}.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

func (osFS) Open(name string) (File, error) { return osFS{}.OpenFile(name, os.O_RDONLY, 0) }

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not a File that holds a nil pointer
	}
	return f, nil
}

func (osFS) ReadFile(name string) ([]byte, error)         { return os.ReadFile(name) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }
func (osFS) Rename(oldname, newname string) error         { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                     { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                  { return os.RemoveAll(name) }
func (osFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", name, err)
	}
	return nil
}
