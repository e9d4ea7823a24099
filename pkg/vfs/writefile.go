package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tempSuffix ends the names of files that WriteFile has not renamed yet.
const tempSuffix = ".tmp"

// maxTempNames bounds the names that are tried for a temporary file.
const maxTempNames = 100

// WriteFile replaces the content of a file with what write writes: into a
// temporary file in the same directory, which is synced and renamed, and whose
// directory is synced after that.
//
// Crash guarantee: at each moment, and after a crash of the process or the
// machine, the file has its old content or the whole new one. When the error is
// nil, it has the new one after a crash as well. After an error it has the old
// one, unless only the sync of the directory failed. A crash can leave the
// temporary file, see RemoveTemp; an error removes it.
//
// Concurrent calls for one name are safe, and one of them wins.
func WriteFile(fsys FS, name string, perm fs.FileMode, write func(io.Writer) error) error {
	tmp, err := writeTemp(fsys, name, perm, write)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, fsys.Remove(tmp)))
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// WriteBytes is WriteFile for content that is in memory.
func WriteBytes(fsys FS, name string, perm fs.FileMode, content []byte) error {
	return WriteFile(fsys, name, perm, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(content))
		return err
	})
}

// writeTemp returns the name of a new, synced file next to name. After an error
// there is no such file.
func writeTemp(fsys FS, name string, perm fs.FileMode, write func(io.Writer) error) (string, error) {
	f, err := CreateTemp(fsys, name, perm)
	if err != nil {
		return "", err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, fsys.Remove(f.Name()))
	}
	return f.Name(), nil
}

// CreateTemp creates an empty file next to name, under a name that RemoveTemp
// recognises. The caller renames or removes it.
func CreateTemp(fsys FS, name string, perm fs.FileMode) (f File, err error) {
	for range maxTempNames {
		tmp := name + "." + strconv.FormatUint(uint64(rand.Uint32()), 36) + tempSuffix
		f, err = fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, err
}

// RemoveTemp removes the temporary files that crashes left in a directory: those
// of the given base name, or of all names when base is empty. It must not run
// while WriteFile writes there.
func RemoveTemp(fsys FS, dir, base string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove temporary files: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if temporary(e.Name(), base) && e.Type().IsRegular() {
			errs = append(errs, fsys.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// temporary says whether name is one that CreateTemp makes for base.
func temporary(name, base string) bool {
	stem, ok := strings.CutSuffix(name, tempSuffix)
	if !ok {
		return false
	}
	dot := strings.LastIndexByte(stem, '.')
	if dot < 1 || base != "" && stem[:dot] != base {
		return false
	}
	_, err := strconv.ParseUint(stem[dot+1:], 36, 32)
	return err == nil
}
