package shipper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// recordFile has what the state file, whose format others define, cannot have.
const recordFile = "hindsight-shipper.json"

// record is the content of recordFile.
type record struct {
	Version int `json:"version"`
	// Bucket is the name of the bucket that the blocks were shipped to.
	Bucket string `json:"bucket"`
	// Released are shipped blocks of the directory that the bucket need not have any
	// more: they were marked for deletion there, or replaced.
	Released []ulid.ULID `json:"released"`
}

const recordVersion = 1

// recordDir is the directory below Dir that the shipper owns.
const recordDir = "thanos"

func (s *Shipper) recordPath() string { return filepath.Join(s.cfg.Dir, recordDir, recordFile) }

// loadRecord takes a record that is missing, malformed or of another version for an
// empty one: then blocks that left the bucket on purpose are looked up once more.
func (s *Shipper) loadRecord() record {
	var r record
	info, err := s.deps.FS.Stat(s.recordPath())
	if err == nil && info.Size() > maxState {
		err = fmt.Errorf("it has %d bytes, more than %d", info.Size(), maxState)
	}
	var data []byte
	if err == nil {
		data, err = s.deps.FS.ReadFile(s.recordPath())
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && r.Version != recordVersion {
		err = fmt.Errorf("its version is %d; this program knows %d", r.Version, recordVersion)
	}
	if err == nil {
		return r
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.deps.Logger.Warn("shipper record unreadable", "file", s.recordPath(), "err", err)
	}
	return record{}
}

// writeRecord replaces the record, if it changed. After a crash it has the old or the new
// content.
func (s *Shipper) writeRecord() error {
	s.record.Version = recordVersion
	data, err := json.MarshalIndent(s.record, "", "\t")
	if err != nil {
		return fmt.Errorf("encode record of shipper: %w", err)
	}
	data = append(data, '\n')
	if old, err := s.deps.FS.ReadFile(s.recordPath()); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := s.deps.FS.MkdirAll(filepath.Dir(s.recordPath()), 0o777); err != nil {
		return fmt.Errorf("write record of shipper: %w", err)
	}
	if err := vfs.WriteBytes(s.deps.FS, s.recordPath(), 0o644, data); err != nil {
		return fmt.Errorf("write record of shipper: %w", err)
	}
	return nil
}
