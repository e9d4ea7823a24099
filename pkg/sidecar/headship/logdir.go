package headship

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// segmentFile is a segment of a log, with its size when the directory was listed.
type segmentFile struct {
	number int
	name   string
	size   int64
}

// logDir is a log directory at one moment. Prometheus appends to the last segment only,
// so the others are complete at their size.
type logDir struct {
	segments []segmentFile // ascending
	// checkpoint is the number of the newest checkpoint, -1 without one, and
	// checkpointDir its directory.
	checkpoint    int
	checkpointDir string
}

// empty says that there is no segment.
func (l *logDir) empty() bool { return len(l.segments) == 0 }

func (l *logDir) first() int { return l.segments[0].number }
func (l *logDir) last() int  { return l.segments[len(l.segments)-1].number }

// from returns the segments from number on.
func (l *logDir) from(number int) []segmentFile {
	i, _ := slices.BinarySearchFunc(l.segments, number, func(s segmentFile, n int) int { return s.number - n })
	return l.segments[i:]
}

// bytesFrom returns how many bytes lie behind a place.
func (l *logDir) bytesFrom(p place) int64 {
	var n int64
	for _, s := range l.from(p.segment) {
		n += s.size
		if s.number == p.segment {
			n -= min(p.offset, s.size)
		}
	}
	return n
}

// listLog lists a log directory. A missing one is empty.
func listLog(fsys vfs.FS, dir string) (*logDir, error) {
	l := &logDir{checkpoint: -1}
	entries, err := fsys.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list log %s: %w", dir, err)
	}
	for _, e := range entries {
		if text, ok := strings.CutPrefix(e.Name(), "checkpoint."); ok {
			if n, ok := number(text); ok && n > l.checkpoint && e.IsDir() {
				l.checkpoint, l.checkpointDir = n, filepath.Join(dir, e.Name())
			}
			continue
		}
		n, ok := number(e.Name())
		if !ok {
			continue
		}
		name := filepath.Join(dir, e.Name())
		info, err := fsys.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // truncated meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list log %s: %w", dir, err)
		}
		l.segments = append(l.segments, segmentFile{number: n, name: name, size: info.Size()})
	}
	slices.SortFunc(l.segments, func(a, b segmentFile) int { return a.number - b.number })
	return l, nil
}

// number parses the number of a segment or a checkpoint.
func number(s string) (int, bool) {
	if len(s) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil
}

// place is a position in a log: everything before it is shipped or needs no shipping.
type place struct {
	segment int
	offset  int64
	// tail and tailSum are the range that ends at offset and its checksum, by which a
	// log that was rewritten is recognized; without a range, tail equals offset.
	tail    int64
	tailSum uint32
}
