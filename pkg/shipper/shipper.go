package shipper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
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
	// Columns uploads the columns object of each raw block of at most a day too. Its failures
	// are logged and counted, and the block is shipped without it.
	Columns bool
	// BlockDuration is the length of blocks that were not compacted. A compacted block
	// that is not longer is a merge of blocks that overlapped, as out-of-order samples
	// make them. It is shipped without UploadCompacted, because it may replace a
	// block before that was shipped. 0 means that there are none.
	BlockDuration time.Duration
	// RecheckInterval is the time after which a shipped block that is still in Dir is
	// looked up in the bucket again. The time doubles with each check, up to a day. A
	// block that vanished from the bucket is shipped again. 0 means never.
	RecheckInterval time.Duration
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
	// FS is the file system of Dir; nil is that of the operating system. The files of blocks
	// are linked and uploaded without it.
	FS vfs.FS
	// Link makes a hard link; nil is os.Link.
	Link func(from, to string) error
}

// Shipper uploads the blocks of one TSDB directory.
type Shipper struct {
	cfg  Config
	deps Deps

	mu       sync.Mutex // one Sync at a time
	corrupt  map[ulid.ULID]corruptBlock
	reported map[ulid.ULID]bool // skipped blocks that were logged
	overlaps map[ulid.ULID]overlap
	// presence is what is known of shipped blocks in the bucket.
	presence map[ulid.ULID]presence
	// record is kept in recordFile.
	record  record
	pass    *pass
	cleared bool // temporary files of an earlier process are removed
	copies  bool // the file system has no hard links

	stateMu sync.Mutex
	shipped map[ulid.ULID]bool
}

// pass is the state of one Sync.
type pass struct {
	blocks []*block.Meta
	// unshipped are compacted blocks that are not shipped although not all their data
	// is in the bucket.
	unshipped map[ulid.ULID]bool
	// remote are the blocks of the bucket; nil before they are needed.
	remote map[ulid.ULID]*block.Meta
}

// New returns a Shipper. Only its files in Dir are read before the first Sync: the
// blocks that the state file lists count as shipped, unless they were shipped to
// another bucket.
func New(cfg Config, deps Deps) *Shipper {
	cfg.Dir = filepath.Clean(cfg.Dir)
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
	if deps.Link == nil {
		deps.Link = os.Link
	}
	s := &Shipper{
		cfg:      cfg,
		deps:     deps,
		corrupt:  map[ulid.ULID]corruptBlock{},
		reported: map[ulid.ULID]bool{},
		overlaps: map[ulid.ULID]overlap{},
		presence: map[ulid.ULID]presence{},
	}
	s.shipped = s.loadState()
	s.record = s.loadRecord()
	if b := s.record.Bucket; b != "" && b != deps.Bucket.Name() {
		deps.Logger.Info("blocks were shipped to another bucket; looking for them in this one", "previous_bucket", b, "bucket", deps.Bucket.Name())
		s.shipped, s.record = map[ulid.ULID]bool{}, record{}
	}
	s.record.Bucket = deps.Bucket.Name()
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

func (s *Shipper) setShipped(id ulid.ULID, is bool) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	if is {
		s.shipped[id] = true
	} else {
		delete(s.shipped, id)
	}
}

// Sync uploads the blocks that are not in the bucket yet, the oldest first, and
// returns how many it uploaded. After a failure of the bucket it stops, so that
// no block is shipped before an older one; the next Sync tries again. A block that
// cannot be read, is corrupt, or overlaps with others does not stop the pass. Empty
// blocks count as shipped. Compacted ones are not shipped unless configured; they count
// as shipped if the blocks they were made of were. At the end the state file lists the
// shipped blocks of the directory; a crash before that costs a request for each of
// them.
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
	s.pass = &pass{blocks: blocks, unshipped: map[ulid.ULID]bool{}}
	defer func() { s.pass = nil }()
	errs := []error{corruptErr, s.recheck(ctx)}
	s.observe()
	uploaded, err = s.shipAll(ctx)
	return uploaded, errors.Join(append(errs, err, s.finish())...)
}

// shipAll ships the blocks of the pass.
func (s *Shipper) shipAll(ctx context.Context) (uploaded int, err error) {
	var errs []error
	for _, m := range s.pass.blocks {
		needed, err := s.needed(ctx, m)
		if err == nil && needed {
			if err = s.upload(ctx, m); s.Shipped(m.ULID) {
				uploaded++
				s.observe()
			}
		}
		switch {
		case err == nil:
		case block.ReasonOf(err) != "":
			errs = append(errs, s.setCorrupt(m.ULID, err))
		case errors.As(err, new(*overlapError)):
			errs = append(errs, err)
		default:
			s.deps.Metrics.uploadFailures.Inc()
			errs = append(errs, err)
			if ctx.Err() != nil || !s.cfg.AllowOutOfOrder && !s.isLocal(err) {
				return uploaded, errors.Join(errs...)
			}
		}
	}
	return uploaded, errors.Join(errs...)
}

// isLocal says whether err is of a file of the directory: then other blocks may be
// readable.
func (s *Shipper) isLocal(err error) bool {
	var path *fs.PathError
	if errors.As(err, &path) {
		return strings.HasPrefix(path.Path, s.cfg.Dir)
	}
	var link *os.LinkError
	return errors.As(err, &link) && strings.HasPrefix(link.Old, s.cfg.Dir)
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
	if err := vfs.RemoveTemp(s.deps.FS, filepath.Dir(s.recordPath()), recordFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear the directory of the shipper record: %w", err)
	}
	s.cleared = true
	return nil
}
