package shipper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// defaultStateFile is the name that Prometheus and Thanos use too.
const defaultStateFile = "thanos.shipper.json"

// Config of a Shipper.
type Config struct {
	// Dir is the TSDB directory with the blocks.
	Dir string
	// StateFile is the name of the state file in Dir; empty means
	// thanos.shipper.json.
	StateFile string
	// Source is the role that meta.json of uploaded blocks names.
	Source block.Source
	// UploadCompacted ships blocks of a level above 1 too, after a check that
	// the bucket does not have their data already.
	UploadCompacted bool
	// AllowOutOfOrder continues with later blocks after one could not be
	// uploaded, and skips the check for overlaps.
	AllowOutOfOrder bool
	// SkipCorrupted keeps corrupt blocks out of the error of Sync. They never
	// delay other blocks, and they are always counted and logged.
	SkipCorrupted bool
	// Concurrency bounds parallel uploads of the files of a block; 0 means 4.
	Concurrency int
	// Hash records the SHA-256 of every file in meta.json.
	Hash bool
}

// Deps are the dependencies of a Shipper.
type Deps struct {
	Bucket bucket.Bucket
	// Labels returns the external labels of the blocks. It is called for every
	// block; without labels, the block is not shipped.
	Labels func() labels.Labels
	// Logger may be nil.
	Logger *slog.Logger
	// Metrics may be nil; several shippers may share one.
	Metrics *Metrics
	// FS is the file system of Dir; nil is that of the operating system. Blocks are
	// linked and uploaded without it.
	FS vfs.FS
}

// Shipper uploads the blocks of one TSDB directory.
type Shipper struct {
	cfg  Config
	deps Deps

	mu       sync.Mutex // one Sync at a time
	corrupt  map[ulid.ULID]corruptBlock
	reported map[ulid.ULID]bool // skipped blocks that were logged
	remote   map[ulid.ULID]*block.Meta
	// unshipped counts, in one pass, compacted blocks that are not shipped
	// although not all their data is in the bucket.
	unshipped int
	cleared   bool // temporary files of an earlier process are removed

	stateMu sync.Mutex
	shipped map[ulid.ULID]bool
}

// corruptBlock is a local block that failed verification. It is verified again
// only when its index has changed.
type corruptBlock struct {
	size     int64
	modified time.Time
	err      error
}

// New returns a Shipper. Only the state file is read before the first Sync: the
// blocks that it lists count as shipped.
func New(cfg Config, deps Deps) *Shipper {
	if cfg.StateFile == "" {
		cfg.StateFile = defaultStateFile
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Metrics == nil {
		deps.Metrics = NewMetrics(nil)
	}
	if deps.FS == nil {
		deps.FS = vfs.OS()
	}
	s := &Shipper{
		cfg:      cfg,
		deps:     deps,
		corrupt:  map[ulid.ULID]corruptBlock{},
		reported: map[ulid.ULID]bool{},
		remote:   map[ulid.ULID]*block.Meta{},
	}
	s.shipped = s.loadState()
	return s
}

// loadState takes a file that is missing or malformed for an empty one: then the
// bucket is asked for every block.
func (s *Shipper) loadState() map[ulid.ULID]bool {
	shipped := map[ulid.ULID]bool{}
	st, err := readState(s.deps.FS, s.statePath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.deps.Logger.Warn("shipper state file unreadable", "file", s.statePath(), "err", err)
	}
	for _, id := range st.Uploaded {
		shipped[id] = true
	}
	return shipped
}

func (s *Shipper) statePath() string { return filepath.Join(s.cfg.Dir, s.cfg.StateFile) }

// Shipped reports whether a block of the directory is in the bucket: as this
// Shipper found or uploaded it there, or as the state file listed it at the start.
// Then deleting the local copy loses nothing. A block that has left the directory
// is forgotten by the next Sync.
func (s *Shipper) Shipped(id ulid.ULID) bool {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	return s.shipped[id]
}

func (s *Shipper) setShipped(id ulid.ULID) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	s.shipped[id] = true
}

// Sync uploads the blocks that are not in the bucket yet, the oldest first, and
// returns how many it uploaded. After an upload that failed it stops, so that
// no block is shipped before an older one; the next Sync tries again. Empty
// blocks, and compacted ones unless configured, are not shipped; a compacted
// block counts as shipped if the blocks it was made of were. At the end the state
// file lists the shipped blocks of the directory; a crash before that costs a
// request for each of them.
func (s *Shipper) Sync(ctx context.Context) (uploaded int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deps.Metrics.syncs.Inc()
	defer func() {
		if err != nil {
			s.deps.Metrics.syncFailures.Inc()
		}
	}()
	if err := s.clear(); err != nil {
		return 0, err
	}
	blocks, corruptErr, err := s.localBlocks()
	if err != nil {
		return 0, err
	}
	s.unshipped = 0
	errs := []error{corruptErr}
	for _, m := range blocks {
		needed, err := s.needed(ctx, m)
		if err == nil && needed {
			if err = s.upload(ctx, m); s.Shipped(m.ULID) {
				uploaded++
			}
		}
		if err == nil {
			continue
		}
		if block.ReasonOf(err) != "" {
			errs = append(errs, s.setCorrupt(m.ULID, err))
			continue
		}
		s.deps.Metrics.uploadFailures.Inc()
		errs = append(errs, err)
		if ctx.Err() != nil || !s.cfg.AllowOutOfOrder {
			break
		}
	}
	return uploaded, errors.Join(append(errs, s.finish(blocks))...)
}

// clear removes what an upload or an earlier process left.
func (s *Shipper) clear() error {
	if err := s.deps.FS.RemoveAll(s.uploadDir()); err != nil {
		return fmt.Errorf("clear upload directory: %w", err)
	}
	if s.cleared {
		return nil
	}
	if err := vfs.RemoveTemp(s.deps.FS, s.cfg.Dir, s.cfg.StateFile); err != nil {
		return fmt.Errorf("clear the directory of the shipper state file: %w", err)
	}
	s.cleared = true
	return nil
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

func (s *Shipper) uploadDir() string { return filepath.Join(s.cfg.Dir, "thanos", "upload") }

// setCorrupt logs and remembers a corrupt block, and returns the error for Sync.
func (s *Shipper) setCorrupt(id ulid.ULID, err error) error {
	info, serr := s.deps.FS.Stat(filepath.Join(s.blockDir(id), block.IndexFile))
	b := corruptBlock{err: err}
	if serr == nil {
		b.size, b.modified = info.Size(), info.ModTime()
	}
	if _, known := s.corrupt[id]; !known {
		s.deps.Logger.Error("corrupt block not shipped", "block", id, "reason", block.ReasonOf(err), "err", err)
	}
	s.corrupt[id] = b
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
	info, err := s.deps.FS.Stat(filepath.Join(s.blockDir(id), block.IndexFile))
	switch {
	case err != nil && b.modified.IsZero():
		return b.err
	case err == nil && info.Size() == b.size && info.ModTime().Equal(b.modified):
		return b.err
	}
	return nil
}

// finish writes the state file and drops what is known of blocks that have left the
// directory.
func (s *Shipper) finish(blocks []*block.Meta) error {
	st := state{Version: stateVersion, Uploaded: []ulid.ULID{}}
	shipped := map[ulid.ULID]bool{}
	for _, m := range blocks {
		if s.Shipped(m.ULID) {
			shipped[m.ULID] = true
			st.Uploaded = append(st.Uploaded, m.ULID)
		}
	}
	s.stateMu.Lock()
	s.shipped = shipped // only a Sync adds to it, and there is one at a time
	s.stateMu.Unlock()
	for id := range s.corrupt {
		if _, err := s.deps.FS.Stat(s.blockDir(id)); shipped[id] || errors.Is(err, fs.ErrNotExist) {
			delete(s.corrupt, id)
		}
	}
	for id := range s.reported {
		if _, err := s.deps.FS.Stat(s.blockDir(id)); errors.Is(err, fs.ErrNotExist) {
			delete(s.reported, id)
		}
	}
	s.deps.Metrics.set(s, counts{corrupt: len(s.corrupt), unshipped: s.unshipped})
	return writeState(s.deps.FS, s.statePath(), st)
}
