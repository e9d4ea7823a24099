package shipper

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// corruptBlock is a local block that failed verification. It is verified again only
// when one of its files has changed.
type corruptBlock struct {
	files []fileState
	err   error
}

// fileState is what tells that a file has not changed.
type fileState struct {
	name     string
	size     int64
	modified time.Time
}

// localBlocks returns the metas of the blocks in the directory, ordered by their
// start, and the error of those that cannot be read.
func (s *Shipper) localBlocks() (blocks []*block.Meta, corruptErr, err error) {
	entries, err := s.deps.FS.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list the blocks to ship: %w", err)
	}
	var errs []error
	for _, e := range entries {
		id, ok := block.ParseID(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		dir := s.blockDir(id)
		m, err := block.ReadMetaDir(dir)
		if err == nil && m.ULID != id {
			err = &block.CorruptError{ID: id, Reason: reason.BlockMetaForeign, Err: fmt.Errorf("meta.json is of block %s", m.ULID)}
		}
		if _, serr := s.deps.FS.Stat(dir); errors.Is(serr, fs.ErrNotExist) {
			continue // deleted by its owner meanwhile
		}
		if err != nil {
			errs = append(errs, s.setCorrupt(id, err))
			continue
		}
		blocks = append(blocks, m)
	}
	slices.SortFunc(blocks, func(a, b *block.Meta) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), a.ULID.Compare(b.ULID))
	})
	return blocks, errors.Join(errs...), nil
}

func (s *Shipper) blockDir(id ulid.ULID) string { return filepath.Join(s.cfg.Dir, id.String()) }

func (s *Shipper) uploadDir() string { return filepath.Join(s.cfg.Dir, recordDir, "upload") }

// files returns the states of meta.json, index and segments of a local block. Files
// that cannot be read are left out.
func (s *Shipper) files(id ulid.ULID) []fileState {
	dir := s.blockDir(id)
	names := []string{block.MetaFile, block.IndexFile}
	segments, err := s.deps.FS.ReadDir(filepath.Join(dir, block.ChunksDir))
	if err == nil {
		for _, e := range segments {
			names = append(names, block.ChunksDir+"/"+e.Name())
		}
	}
	var out []fileState
	for _, name := range names {
		if info, err := s.deps.FS.Stat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			out = append(out, fileState{name: name, size: info.Size(), modified: info.ModTime()})
		}
	}
	return out
}

// setCorrupt logs and remembers a corrupt block, and returns the error for Sync.
func (s *Shipper) setCorrupt(id ulid.ULID, err error) error {
	if _, known := s.corrupt[id]; !known {
		s.deps.Logger.Error("corrupt block not shipped", "block", id, "reason", block.ReasonOf(err), "err", err)
		s.deps.Metrics.corruptTotal.WithLabelValues(string(cmp.Or(block.ReasonOf(err), reason.BlockUnreadable))).Inc()
	}
	s.corrupt[id] = corruptBlock{files: s.files(id), err: err}
	if s.cfg.SkipCorrupted {
		return nil
	}
	return fmt.Errorf("block %s cannot be shipped: %w", id, err)
}

// knownCorrupt returns the error of an earlier verification that still holds.
func (s *Shipper) knownCorrupt(id ulid.ULID) error {
	b, ok := s.corrupt[id]
	if !ok {
		return nil
	}
	if slices.EqualFunc(b.files, s.files(id), func(x, y fileState) bool {
		return x.name == y.name && x.size == y.size && x.modified.Equal(y.modified)
	}) {
		return b.err
	}
	return nil
}

// observe sets the gauges.
func (s *Shipper) observe() {
	now := counts{corrupt: len(s.corrupt), unshipped: len(s.pass.unshipped), overlapping: len(s.overlaps)}
	unshipped := func(since int64) {
		if since = max(since, 1); now.since == 0 || since < now.since {
			now.since = since
		}
	}
	readable := map[ulid.ULID]bool{}
	for _, m := range s.pass.blocks {
		readable[m.ULID] = true
		if s.Shipped(m.ULID) || s.pass.unshipped[m.ULID] || m.Stats.NumSamples == 0 || s.leftOut(m) {
			continue
		}
		unshipped(m.MinTime)
		if _, corrupt := s.corrupt[m.ULID]; corrupt {
			continue
		}
		now.blocks++
		for _, f := range s.files(m.ULID) {
			now.bytes += f.size
		}
	}
	for id := range s.corrupt {
		if !readable[id] {
			unshipped(int64(id.Time())) // its samples are older, how much is not known
		}
	}
	s.deps.Metrics.set(s.cfg.Dir, now)
}

// finish writes the files of the shipper and drops what is known of blocks that have
// left the directory.
func (s *Shipper) finish() error {
	st := state{Version: stateVersion, Uploaded: []ulid.ULID{}}
	shipped := map[ulid.ULID]bool{}
	for _, m := range s.pass.blocks {
		if s.Shipped(m.ULID) {
			shipped[m.ULID] = true
			st.Uploaded = append(st.Uploaded, m.ULID)
		}
	}
	s.stateMu.Lock()
	s.shipped = shipped // only a Sync adds to it, and there is one at a time
	s.stateMu.Unlock()
	gone := func(id ulid.ULID) bool {
		_, err := s.deps.FS.Stat(s.blockDir(id))
		return errors.Is(err, fs.ErrNotExist)
	}
	for id := range s.corrupt {
		if shipped[id] || gone(id) {
			delete(s.corrupt, id)
		}
	}
	for id := range s.overlaps {
		if shipped[id] || gone(id) {
			delete(s.overlaps, id)
		}
	}
	for id := range s.reported {
		if gone(id) {
			delete(s.reported, id)
		}
	}
	for id := range s.presence {
		if gone(id) {
			delete(s.presence, id)
		}
	}
	s.record.Released = slices.DeleteFunc(s.record.Released, gone)
	s.observe()
	return errors.Join(writeState(s.deps.FS, s.statePath(), st), s.writeRecord())
}
