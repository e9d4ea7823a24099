package sidecar

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// fingerprint identifies the content of the watched files.
type fingerprint [sha256.Size]byte

// fingerprintOf hashes the configuration file and everything in the rule
// directories. Links are followed, as Kubernetes mounts files through links.
func fingerprintOf(c ReloaderConfig) (fingerprint, error) {
	h := sha256.New()
	if c.ConfigFile != "" {
		if err := hashFile(h, c.ConfigFile); err != nil {
			return fingerprint{}, fmt.Errorf("look for changes: %w", err)
		}
	}
	for _, dir := range c.RuleDirs {
		err := walk(dir, func(path string, isDir bool) error {
			if isDir {
				return nil
			}
			return hashFile(h, path)
		})
		if err != nil {
			return fingerprint{}, fmt.Errorf("look for changes: %w", err)
		}
	}
	return fingerprint(h.Sum(nil)), nil
}

func hashFile(h hash.Hash, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(h, "%q\n", name)
	_, err = io.Copy(h, f)
	return err
}

// watchDirs are the directories of the watched files.
func watchDirs(c ReloaderConfig) []string {
	var dirs []string
	if c.ConfigFile != "" {
		dirs = append(dirs, filepath.Dir(c.ConfigFile))
	}
	for _, dir := range c.RuleDirs {
		// fingerprintOf reports directories that cannot be read.
		_ = walk(dir, func(path string, isDir bool) error {
			if isDir {
				dirs = append(dirs, path)
			}
			return nil
		})
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// maxDepth bounds the nesting of rule directories: links can form a loop.
const maxDepth = 16

// walk calls f for dir and everything below it, following links, in the order
// of the names.
func walk(dir string, f func(path string, isDir bool) error) error {
	return walkDepth(filepath.Clean(dir), 0, f)
}

func walkDepth(path string, depth int, f func(string, bool) error) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && depth > 0 {
		return nil // removed just now, or a dangling link
	}
	if err != nil {
		return err
	}
	if err := f(path, st.IsDir()); err != nil || !st.IsDir() {
		return err
	}
	if depth == maxDepth {
		return fmt.Errorf("%s is nested more than %d directories deep", path, maxDepth)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := walkDepth(filepath.Join(path, e.Name()), depth+1, f); err != nil {
			return err
		}
	}
	return nil
}
