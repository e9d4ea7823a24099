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
	"strings"
)

// fingerprint identifies the content of the watched files.
type fingerprint [sha256.Size]byte

// scanned is the state of the watched files.
type scanned struct {
	sum fingerprint
	// dirs are the existing directories in which a change can change the files: those
	// of the files, of links on the way to them, and of what does not exist yet.
	dirs []string
	// absent are the rule directories that do not exist.
	absent []string
}

// maxRuleFiles bounds the files below the rule directories, and maxDepth their nesting.
const (
	maxRuleFiles = 20_000
	maxDepth     = 16
)

// scan hashes the configuration file and everything in the rule directories, which may
// be patterns. Links are followed, as Kubernetes mounts files through links. A rule
// directory that does not exist is as one without files. The directories are also
// returned with an error.
func scan(c ReloaderConfig) (scanned, error) {
	s := scanner{hash: sha256.New(), seen: map[string]bool{}, left: maxRuleFiles}
	err := s.all(c)
	out := scanned{dirs: s.dirs, absent: s.absent}
	slices.Sort(out.dirs)
	out.dirs = slices.Compact(out.dirs)
	if err != nil {
		return out, fmt.Errorf("look for changes: %w", err)
	}
	out.sum = fingerprint(s.hash.Sum(nil))
	return out, nil
}

type scanner struct {
	hash   hash.Hash
	dirs   []string
	absent []string
	seen   map[string]bool // directories, without links in their paths
	left   int             // more files are an error
}

func (s *scanner) all(c ReloaderConfig) error {
	var errs []error
	if c.ConfigFile != "" {
		s.dirs = append(s.dirs, dirsOf(c.ConfigFile)...)
		errs = append(errs, s.file(c.ConfigFile))
	}
	for _, dir := range c.RuleDirs {
		errs = append(errs, s.ruleDir(dir))
	}
	return errors.Join(errs...)
}

// ruleDir reads a directory, a file, or all that a pattern matches.
func (s *scanner) ruleDir(dir string) error {
	s.dirs = append(s.dirs, dirsOf(dir)...)
	_, err := os.Stat(dir)
	switch {
	case err == nil:
		return s.walk(filepath.Clean(dir), 0)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !isPattern(dir):
		s.absent = append(s.absent, dir)
		return nil
	}
	paths, err := filepath.Glob(dir)
	if err != nil {
		return fmt.Errorf("--reloader.rule-dir=%s: %w", dir, err)
	}
	// New matches can appear in each directory that matches the beginning of the pattern.
	for parent := filepath.Dir(dir); isPattern(parent); parent = filepath.Dir(parent) {
		parents, err := filepath.Glob(parent)
		if err != nil {
			return fmt.Errorf("--reloader.rule-dir=%s: %w", dir, err)
		}
		for _, p := range parents {
			s.dirs = append(s.dirs, dirsOf(p)...)
		}
	}
	for _, p := range paths {
		s.dirs = append(s.dirs, dirsOf(p)...)
		if err := s.walk(p, 0); err != nil {
			return err
		}
	}
	return nil
}

func isPattern(path string) bool { return strings.ContainsAny(path, "*?[") }

// walk reads path and everything below it, in the order of the names. Names that begin
// with two dots are not read: Kubernetes keeps the versions of a mount there, to which
// the visible names are links.
func (s *scanner) walk(path string, depth int) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed just now, or a dangling link
	}
	if err != nil {
		return err
	}
	if st.Mode().IsRegular() {
		return s.file(path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil || !st.IsDir() || s.seen[real] {
		return err // a pipe or a device would block its reader
	}
	if depth == maxDepth {
		return fmt.Errorf("%s is nested more than %d directories deep", path, maxDepth)
	}
	s.seen[real] = true
	s.dirs = append(s.dirs, real)
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		name := filepath.Join(path, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			s.dirs = append(s.dirs, dirsOf(name)...)
		}
		if err := s.walk(name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) file(name string) error {
	if s.left--; s.left < 0 {
		return fmt.Errorf("more than %d files at %s; is the rule directory the right one?", maxRuleFiles, name)
	}
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	if st.Size() > maxConfigFile {
		return fmt.Errorf("%s is larger than %d bytes", name, maxConfigFile)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(s.hash, "%q %d\n", name, st.Size())
	_, err = io.Copy(s.hash, io.LimitReader(f, maxConfigFile))
	return err
}

// maxLinks bounds the links on the way to a file, as Linux does.
const maxLinks = 40

// dirsOf returns the directories, without links in their paths, in which a change can
// change what the path leads to: the directory of each link on the way, and the last
// existing directory.
func dirsOf(path string) []string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	var dirs []string
	at, rest := "/", strings.Split(abs, "/")
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		st, err := os.Lstat(next)
		if err != nil {
			break
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			if !st.IsDir() {
				break
			}
			at = next
			continue
		}
		dirs = append(dirs, at)
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return dirs
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return append(dirs, at)
}
