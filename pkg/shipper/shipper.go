package shipper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// DefaultStateFile is the usual name of the state file in the TSDB directory.
const DefaultStateFile = "thanos.shipper.json"

// Config says what is shipped from where.
type Config struct {
	// Dir is the TSDB directory with the blocks.
	Dir string
	// StateFile is the name of the state file in Dir; empty means
	// DefaultStateFile.
	StateFile string
	// Source is what meta.json says of where blocks come from.
	Source block.Source
	// UploadCompacted ships blocks of a level above 1 too, after a check that
	// the bucket does not have their data already.
	UploadCompacted bool
	// AllowOutOfOrder goes on with later blocks after one could not be
	// uploaded, and does without the check for overlaps.
	AllowOutOfOrder bool
	// SkipCorrupted keeps broken blocks out of the error of Sync. They never
	// hold up other blocks, and they are always counted and logged.
	SkipCorrupted bool
	// Concurrency bounds parallel uploads of the files of a block; 0 means 4.
	Concurrency int
	// Hash records the SHA-256 of every file in meta.json.
	Hash bool
}

// Deps are what a Shipper works with.
type Deps struct {
	Bucket bucket.Bucket
	// Labels returns the external labels of the blocks. It is asked for every
	// block and must not return none.
	Labels func() labels.Labels
	// Logger may be nil.
	Logger *slog.Logger
	// Metrics may be nil; several shippers may share one.
	Metrics *Metrics
}

// Shipper uploads the blocks of one TSDB directory.
type Shipper struct {
	cfg  Config
	deps Deps

	mu       sync.Mutex // one Sync at a time
	corrupt  map[ulid.ULID]broken
	reported map[ulid.ULID]bool // skipped blocks that were logged
	remote   map[ulid.ULID]*block.Meta
	// unshipped counts, in one pass, compacted blocks whose data is not all in
	// the bucket and which are not to be shipped.
	unshipped int

	stateMu sync.Mutex
	shipped map[ulid.ULID]bool
}

// broken is a local block that failed verification. It is verified again only
// when its index has changed.
type broken struct {
	size     int64
	modified time.Time
	err      error
}

// New returns a Shipper. Nothing is touched before the first Sync, except that
// the state file is read: what it lists counts as shipped.
func New(cfg Config, deps Deps) *Shipper {
	if cfg.StateFile == "" {
		cfg.StateFile = DefaultStateFile
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Metrics == nil {
		deps.Metrics = NewMetrics(nil)
	}
	s := &Shipper{
		cfg:      cfg,
		deps:     deps,
		corrupt:  map[ulid.ULID]broken{},
		reported: map[ulid.ULID]bool{},
		remote:   map[ulid.ULID]*block.Meta{},
	}
	s.shipped = s.loadState()
	return s
}

// loadState takes a file that is missing or broken for an empty one: the bucket
// is then asked for every block.
func (s *Shipper) loadState() map[ulid.ULID]bool {
	shipped := map[ulid.ULID]bool{}
	st, err := ReadState(s.statePath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.deps.Logger.Warn("state file of shipper cannot be used; asking the bucket instead", "path", s.statePath(), "err", err)
	}
	for _, id := range st.Uploaded {
		shipped[id] = true
	}
	return shipped
}

func (s *Shipper) statePath() string { return filepath.Join(s.cfg.Dir, s.cfg.StateFile) }

// Shipped says whether the block was in the bucket at the end of the last Sync,
// or before by the word of the state file. Deleting the local copy then loses
// nothing.
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
// block counts as shipped if the blocks it was made of were.
func (s *Shipper) Sync(ctx context.Context) (uploaded int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deps.Metrics.syncs.Inc()
	defer func() {
		if err != nil {
			s.deps.Metrics.syncFailures.Inc()
		}
	}()
	if err := os.RemoveAll(s.uploadDir()); err != nil {
		return 0, fmt.Errorf("clear upload directory: %w", err)
	}
	blocks, corruptErr, err := s.localBlocks()
	if err != nil {
		return 0, err
	}
	s.unshipped = 0
	errs := []error{corruptErr}
	for _, m := range blocks {
		done, err := s.ship(ctx, m)
		if done {
			uploaded++
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

// localBlocks returns the metas of the blocks in the directory, by start, and
// the error of those that cannot be read.
func (s *Shipper) localBlocks() (blocks []*block.Meta, corruptErr, err error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("look for blocks: %w", err)
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
		if _, serr := os.Stat(dir); errors.Is(serr, fs.ErrNotExist) {
			continue // deleted by its owner meanwhile
		}
		if err != nil {
			errs = append(errs, s.setCorrupt(id, err))
			continue
		}
		blocks = append(blocks, m)
	}
	slices.SortFunc(blocks, func(a, b *block.Meta) int {
		if a.MinTime != b.MinTime {
			if a.MinTime < b.MinTime {
				return -1
			}
			return 1
		}
		return a.ULID.Compare(b.ULID)
	})
	return blocks, errors.Join(errs...), nil
}

func (s *Shipper) blockDir(id ulid.ULID) string { return filepath.Join(s.cfg.Dir, id.String()) }

func (s *Shipper) uploadDir() string { return filepath.Join(s.cfg.Dir, "thanos", "upload") }

// setCorrupt logs and remembers a broken block, and returns the error for Sync.
func (s *Shipper) setCorrupt(id ulid.ULID, err error) error {
	info, serr := os.Stat(filepath.Join(s.blockDir(id), block.IndexFile))
	b := broken{err: err}
	if serr == nil {
		b.size, b.modified = info.Size(), info.ModTime()
	}
	if _, known := s.corrupt[id]; !known {
		s.deps.Logger.Error("block is broken and cannot be shipped", "block", id, "reason", block.ReasonOf(err), "err", err)
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
	info, err := os.Stat(filepath.Join(s.blockDir(id), block.IndexFile))
	switch {
	case err != nil && b.modified.IsZero():
		return b.err
	case err == nil && info.Size() == b.size && info.ModTime().Equal(b.modified):
		return b.err
	}
	return nil
}

// finish writes the state file and forgets what is no longer there.
func (s *Shipper) finish(blocks []*block.Meta) error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	st := State{Version: stateVersion, Uploaded: []ulid.ULID{}}
	shipped := map[ulid.ULID]bool{}
	for _, m := range blocks {
		if s.shipped[m.ULID] {
			shipped[m.ULID] = true
			st.Uploaded = append(st.Uploaded, m.ULID)
		}
	}
	s.shipped = shipped
	for id := range s.corrupt {
		if _, err := os.Stat(s.blockDir(id)); shipped[id] || errors.Is(err, fs.ErrNotExist) {
			delete(s.corrupt, id)
		}
	}
	for id := range s.reported {
		if _, err := os.Stat(s.blockDir(id)); errors.Is(err, fs.ErrNotExist) {
			delete(s.reported, id)
		}
	}
	s.deps.Metrics.set(s, counts{corrupt: len(s.corrupt), unshipped: s.unshipped})
	return writeState(s.statePath(), st)
}
