package outage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"
)

// state identifies the content of a data directory whose owner does not run.
type state struct {
	// log identifies the content of both logs; segments without content do not
	// count, because a start of Prometheus adds one.
	log string
	// late says that the write-behind log has content.
	late bool
	// blocks are the names of the blocks.
	blocks string
}

// stateOf lists the data directory. Segments are only appended to or deleted, so
// their names and sizes identify their content. Head chunks are copies of what the
// logs hold, and their files may change while Prometheus reads its log.
func stateOf(path string) (s state, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return s, fmt.Errorf("list the data directory of Prometheus: %w", err)
	}
	var names strings.Builder
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err == nil && e.IsDir() {
			names.WriteString(e.Name() + "\n")
		}
	}
	s.blocks = names.String()
	wal, err := segments(path, "wal")
	if err != nil {
		return s, err
	}
	wbl, err := segments(path, "wbl")
	s.log, s.late = wal+wbl, wbl != ""
	return s, err
}

// segments returns the names and sizes of the files that have content below a
// directory, those of checkpoints included; none if it does not exist.
func segments(path, name string) (string, error) {
	var out strings.Builder
	err := filepath.WalkDir(filepath.Join(path, name), func(file string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil && info.Size() > 0 {
				fmt.Fprintf(&out, "%s %d\n", strings.TrimPrefix(file, path), info.Size())
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no such log, or truncated just now
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("list the log of Prometheus: %w", err)
	}
	return out.String(), nil
}
