// Package walrepair repairs the directory of a TSDB before it is opened. The TSDB
// itself cuts a write-ahead log off at the first damaged byte and drops all
// records behind it; here only the damaged records are lost. Nothing is deleted:
// the damaged originals are kept in a directory of their own.
package walrepair

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// DamagedDir is where the damaged originals are kept, below the directory of the
// TSDB.
const DamagedDir = "damaged"

// outOfOrderLog is the directory of the log of out-of-order samples.
const outOfOrderLog = "wbl"

// Report lists what was damaged.
type Report struct {
	// Records is the number of records that were taken out of the logs.
	Records int
	// Blocks were moved to DamagedDir.
	Blocks []BadBlock
}

// BadBlock is a block that cannot be opened.
type BadBlock struct {
	ID  ulid.ULID
	Err error
}

// Repair takes damaged records and markers out of the logs of the TSDB in dir, takes
// out-of-order chunks out of chunks_head, and moves blocks that cannot be opened to
// DamagedDir. The TSDB must be closed. After
// an error, or a crash at any moment, the next Repair does the rest: an original
// is replaced or moved only after its copy is durable. Errors that are about the
// machine and not about the content of a file are returned, and nothing is moved
// for them.
func Repair(fsys vfs.FS, dir string) (Report, error) {
	r := repairer{fs: fsys, dir: dir}
	if err := r.log(filepath.Join(dir, "wal"), false); err != nil {
		return r.report, err
	}
	before := r.report.Records
	if err := r.log(filepath.Join(dir, outOfOrderLog), true); err != nil {
		return r.report, err
	}
	if err := r.headChunks(r.report.Records - before); err != nil {
		return r.report, err
	}
	return r.report, r.blocks()
}

type repairer struct {
	fs     vfs.FS
	dir    string
	report Report
}

// log repairs the segments of a log and of its checkpoints.
func (r *repairer) log(dir string, outOfOrder bool) error {
	entries, err := r.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = vfs.RemoveTemp(r.fs, dir, "")
	}
	if err != nil {
		return fmt.Errorf("list the segments of a write-ahead log: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		_, notSegment := strconv.Atoi(e.Name())
		switch {
		case e.IsDir():
			err = r.log(name, outOfOrder)
		case notSegment == nil:
			err = r.segment(name, outOfOrder)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// segment replaces a segment that is damaged, or has markers, by one with its
// other records.
func (r *repairer) segment(name string, outOfOrder bool) error {
	data, err := r.fs.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read a segment of the write-ahead log: %w", err)
	}
	records, damaged := scanSegment(data)
	kept := records
	if outOfOrder {
		unreadable := 0
		kept, unreadable = withoutMarkers(records)
		damaged += unreadable
	}
	if damaged == 0 && len(kept) == len(records) {
		return nil
	}
	if damaged > 0 {
		if err := r.keepCopy(name, data); err != nil {
			return fmt.Errorf("keep a copy of the damaged segment %s: %w", name, err)
		}
	}
	if err := vfs.WriteBytes(r.fs, name, 0o666, encodeSegment(kept)); err != nil {
		return fmt.Errorf("repair a segment of the write-ahead log: %w", err)
	}
	r.report.Records += damaged
	return nil
}

// keepCopy writes the content of a damaged segment to DamagedDir. Copies of
// earlier damages of the same segment stay.
func (r *repairer) keepCopy(name string, data []byte) error {
	rel, err := filepath.Rel(r.dir, name)
	if err != nil {
		return err
	}
	if err := r.fs.MkdirAll(filepath.Join(r.dir, DamagedDir), 0o750); err != nil {
		return err
	}
	kept := r.free(strings.ReplaceAll(rel, string(filepath.Separator), "-"), func(other string) bool {
		old, err := r.fs.ReadFile(other)
		return err == nil && bytes.Equal(old, data)
	})
	return vfs.WriteBytes(r.fs, kept, 0o640, data)
}

// free returns a path in DamagedDir that does not exist, or whose content is the
// same already.
func (r *repairer) free(base string, same func(name string) bool) string {
	name := filepath.Join(r.dir, DamagedDir, base)
	for n := 1; ; n++ {
		if _, err := r.fs.Stat(name); err != nil || same(name) {
			return name
		}
		name = filepath.Join(r.dir, DamagedDir, fmt.Sprintf("%s.%d", base, n))
	}
}

// blocks moves blocks that cannot be opened, so that all others can.
func (r *repairer) blocks() error {
	entries, err := r.fs.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("list the blocks: %w", err)
	}
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		b, openErr := tsdb.OpenBlock(nil, filepath.Join(r.dir, e.Name()), nil, nil)
		if openErr == nil {
			if err := b.Close(); err != nil {
				return fmt.Errorf("close block %s after its check: %w", id, err)
			}
			continue
		}
		if transient(openErr) {
			return fmt.Errorf("open block %s: %w", id, openErr)
		}
		if err := r.moveAway(e.Name()); err != nil {
			return fmt.Errorf("move the damaged block %s: %w", id, err)
		}
		r.report.Blocks = append(r.report.Blocks, BadBlock{id, openErr})
	}
	return nil
}

func (r *repairer) moveAway(name string) error {
	away := filepath.Join(r.dir, DamagedDir)
	if err := r.fs.MkdirAll(away, 0o750); err != nil {
		return err
	}
	to := r.free(name, func(string) bool { return false })
	if err := r.fs.Rename(filepath.Join(r.dir, name), to); err != nil {
		return err
	}
	return errors.Join(r.fs.SyncDir(away), r.fs.SyncDir(r.dir))
}
