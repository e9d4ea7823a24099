package headship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Config of a Shipper.
type Config struct {
	// Dir is the data directory of Prometheus, which is only read.
	Dir string
	// Interval is the time between two passes, and so the most that is lost with the
	// disk.
	Interval time.Duration
}

// Deps are the dependencies of a Shipper.
type Deps struct {
	Bucket bucket.Bucket
	// Labels returns the external labels of Prometheus; nothing is shipped without.
	Labels func() labels.Labels
	// Shipped says whether a block of the data directory is in the bucket.
	Shipped func(ulid.ULID) bool
	// Running says whether Prometheus answers and is not stopping; nil is never.
	Running func(context.Context) bool
	// Logger may be nil.
	Logger *slog.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
	// FS is the file system of Dir; nil is that of the operating system.
	FS vfs.FS
}

// pieceSize is the size at which a piece is closed, in bytes. A pass holds one piece
// with samples and one with series in memory.
const pieceSize = 16 << 20

// errChanged says that Prometheus deleted a file between the listing and the reading.
var errChanged = errors.New("log changed while it was read")

// Shipper ships the logs of one Prometheus. One goroutine uses it.
type Shipper struct {
	cfg     Config
	deps    Deps
	metrics *metrics

	reader          segmentReader
	decoder         *decoder
	samples, series *headlog.Writer

	// gen is nil until the log on disk was looked at, and after it was found changed.
	gen *generation
	// former are the other generations of the source, listed at formerAt.
	former   []*headlog.Generation
	formerAt time.Time
	metas    map[ulid.ULID]*block.Meta
	// retries are the ranges whose upload failed, by kind. They are tried again as
	// they were, so that a piece that arrived despite an error is overwritten by itself.
	retries map[headlog.Kind]retry
	// skipped is the damaged segment that was reported last.
	skipped string
}

// retry is a range of a segment.
type retry struct {
	segment   int
	from, end int64
}

// New returns a Shipper. It does nothing before the first Sync.
func New(cfg Config, deps Deps) (*Shipper, error) {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Running == nil {
		deps.Running = func(context.Context) bool { return false }
	}
	if deps.FS == nil {
		deps.FS = vfs.OS()
	}
	s := &Shipper{
		cfg: cfg, deps: deps, metrics: newMetrics(deps.Registerer),
		retries: map[headlog.Kind]retry{},
	}
	var err error
	if s.decoder, err = newDecoder(); err != nil {
		return nil, err
	}
	if s.samples, err = headlog.NewWriter(false); err != nil {
		return nil, err
	}
	s.series, err = headlog.NewWriter(true)
	return s, err
}

// Sync ships the records that the logs hold when it begins, in their order, and then
// removes the pieces whose samples are in blocks. After an error nothing later is
// shipped; the next Sync continues at the same place, with the log on disk as the
// queue.
func (s *Shipper) Sync(ctx context.Context) error {
	start := time.Now()
	err := s.sync(ctx)
	if errors.Is(err, errChanged) {
		err = s.sync(ctx)
	}
	switch {
	case err == nil:
		s.metrics.lastSuccess.Set(float64(start.UnixMilli()) / 1000)
	case ctx.Err() == nil:
		s.metrics.failures.Inc()
	}
	return err
}

// sync is one attempt of Sync. It lists both logs, finds the place in them, and ships in
// the order in which a reader needs the records.
func (s *Shipper) sync(ctx context.Context) error {
	external := s.deps.Labels()
	if external.IsEmpty() {
		return errors.New("ship head log: Prometheus has no external labels")
	}
	// The series of the samples in wbl/ are in wal/, and were written before them, so
	// wal/ is listed later and shipped earlier.
	wbl, err := listLog(s.deps.FS, filepath.Join(s.cfg.Dir, "wbl"))
	if err != nil {
		return err
	}
	wal, err := listLog(s.deps.FS, filepath.Join(s.cfg.Dir, "wal"))
	if err != nil || wal.empty() {
		return err
	}
	cov, err := s.readCoverage(wbl)
	if err != nil {
		return err
	}
	if s.gen == nil {
		s.metrics.unshipped.Set(float64(wal.bytesFrom(place{}) + wbl.bytesFrom(place{})))
	}
	if err := s.locate(ctx, external, wal, wbl, cov); err != nil {
		return err
	}
	g := s.gen
	rest := func() { s.metrics.unshipped.Set(float64(wal.bytesFrom(g.wal) + wbl.bytesFrom(g.wbl))) }
	rest()
	defer rest()
	if err := s.shipCheckpoint(ctx, wal, cov); err != nil {
		return err
	}
	if err := s.shipLog(ctx, headlog.KindWAL, wal, cov); err != nil {
		return err
	}
	if err := s.shipLog(ctx, headlog.KindWBL, wbl, cov); err != nil {
		return err
	}
	s.releaseMemory()
	return s.clean(ctx, cov)
}

// releaseMemory drops the buffers of a pass that caught up with much of the log.
func (s *Shipper) releaseMemory() {
	const keep = 4 << 20
	for _, w := range []*headlog.Writer{s.samples, s.series} {
		w.Release(keep)
	}
	if cap(s.reader.scratch) > keep {
		s.reader.scratch = nil
	}
	if cap(s.decoder.buf) > keep {
		s.decoder.buf = nil
	}
}

// Run calls Sync every interval until ctx is cancelled, and then until the log is quiet:
// Prometheus may be stopping at the same time and write its last records.
func (s *Shipper) Run(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := s.Sync(ctx); err != nil && ctx.Err() == nil {
			s.deps.Logger.Error("shipping of head log failed", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalTimeout)
	defer cancel()
	if err := s.finish(last); err != nil {
		s.deps.Logger.Error("last records of head log not shipped", "err", err,
			"unshipped_bytes", fmt.Sprint(s.unshippedBytes()))
	}
}
