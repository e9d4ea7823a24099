package multitsdb

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/headcompact"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/seriescache"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/walrepair"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// tenantDB is the TSDB of one tenant, from its opening to its closing.
type tenantDB struct {
	id     string
	dir    string
	epoch  int // of the lifecycle
	cfg    *Config
	logger *slog.Logger
	db     *tsdb.DB
	// opened is db for what the TSDB calls from its own goroutines.
	opened atomic.Pointer[tsdb.DB]
	cache  *seriescache.Cache
	// creating is held from the first look for a series that the cache lacks until its record
	// is in the log. A series is in the head before that: another write could find it and
	// log samples before the series, which a replay drops.
	creating sync.Mutex
	// committing is held while a write goes to the log and then to the head, so that both take
	// the samples of a series in one order. A sample that the head took in order and that stands
	// behind a later one in the log is dropped by a replay.
	committing sync.Mutex
	// logFailed says that a record could not be written. The head may have series and samples
	// that the log lacks, so nothing is committed until the tenant is opened again.
	logFailed atomic.Bool
	probe     probe
	metadata  *familyMetadata
	store     *tsdbstore.Store
	shipper   Shipper
	metrics   *metrics
	registry  *tenantRegisterer
	replay    *tsdb.DBStats

	// head keeps writes, compactions and the closing apart.
	head *headcompact.Head
	// readers counts open queriers; the TSDB may not be closed before they are.
	readers sync.WaitGroup
	state   sync.Mutex
	reading int
	closed  atomic.Bool // changes under state

	lastWrite atomic.Int64 // Unix milliseconds
	lastUse   atomic.Int64 // by a write, or by a query whose time blocks have
	rate      meter
	// leaving is that of the DB, looked at by each write after it has begun: after
	// a flush that began when it was true, nothing is in the head.
	leaving *atomic.Bool
	// renamedOnce is about the log line on labels called like external ones.
	renamedOnce sync.Once
}

// openTSDB opens the TSDB of a tenant and returns the event that this ends in.
func (d *DB) openTSDB(id string, s slot) *event {
	t, err := d.openTenant(id, s)
	if err == nil {
		return &event{Event: lifecycle.Event{Kind: lifecycle.Opened}, tenant: t}
	}
	e := &event{Event: lifecycle.Event{Kind: lifecycle.OpenFailed, Err: err}}
	if s.life.Extent == lifecycle.Unknown && s.idle == nil {
		e.idle = d.unopened(id)
	}
	return e
}

// openTenant makes the directory of a tenant if need be, repairs what is damaged
// in it, and opens the TSDB.
func (d *DB) openTenant(id string, s slot) (*tenantDB, error) {
	t := &tenantDB{
		id: id, dir: filepath.Join(d.cfg.Dir, id), epoch: s.life.Epoch, cfg: &d.cfg, metrics: d.metrics,
		logger: d.logger.With("tenant", id), cache: seriescache.New(), metadata: s.metadata, store: d.storeOf(id),
		registry: newTenantRegisterer(d.reg, id), leaving: &d.leaving, replay: d.replay.begin(id),
		head: headcompact.New(headcompact.Config{
			BlockDuration: d.cfg.MinBlockDuration, MaxBlockDuration: d.cfg.MaxBlockDuration, Pause: d.metrics.pause,
		}),
	}
	if err := d.cfg.FS.MkdirAll(t.dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the directory of tenant %s: %w", id, err)
	}
	switch {
	case s.idle != nil && s.idle.shipper != nil:
		t.shipper = s.idle.shipper
	case d.cfg.NewShipper != nil:
		t.shipper = d.cfg.NewShipper(id, t.dir, d.externalOf(id))
	}
	now := time.Now().UnixMilli()
	t.lastUse.Store(now)
	t.lastWrite.Store(now)
	if err := t.openTSDB(); err != nil {
		return nil, fmt.Errorf("open the tsdb of tenant %s: %w", id, err)
	}
	if i := t.toIdle(); i.mint <= i.maxt && t.db.Head().NumSeries() == 0 {
		t.lastWrite.Store(min(now, i.maxt))
	}
	if s.life.Extent == lifecycle.Unknown {
		// A tenant that was already idle before the restart may be closed at the
		// next check.
		t.lastUse.Store(t.lastWrite.Load())
	}
	return t, nil
}

func (d *DB) storeOf(id string) *tsdbstore.Store {
	return tsdbstore.New(onDemand{d, id}, tsdbstore.Config{Component: "receive", External: d.externalOf(id)})
}

// externalOf returns a function for the current external labels of a tenant's data.
func (d *DB) externalOf(id string) func() labels.Labels {
	return func() labels.Labels { return d.cfg.External(id) }
}

// openTSDB repairs damaged logs and blocks and opens the TSDB. Unreadable records and
// blocks are moved, counted and logged; they do not keep the tenant from opening.
func (t *tenantDB) openTSDB() error {
	if err := finishRemovingLogs(t.cfg.FS, t.dir); err != nil {
		return err
	}
	report, err := walrepair.Repair(t.cfg.FS, t.dir)
	if report.Records > 0 {
		t.metrics.damaged.WithLabelValues(damagedRecord).Add(float64(report.Records))
		t.logger.Error("damaged records removed from the write-ahead log",
			"records", report.Records, "dir", filepath.Join(t.dir, walrepair.DamagedDir))
	}
	for _, b := range report.Blocks {
		t.metrics.damaged.WithLabelValues(damagedBlock).Inc()
		t.logger.Error("damaged block moved", "block", b.ID, "dir", filepath.Join(t.dir, walrepair.DamagedDir), "err", b.Err)
	}
	if err != nil {
		return err
	}
	if t.db, err = tsdb.Open(t.dir, headcompact.Logger(t.logger, func() { t.logFailed.Store(true) }), t.registry.orNil(), t.options(), t.replay); err != nil {
		t.registry.unregisterAll()
		return err
	}
	t.head.Attach(t.db)
	t.opened.Store(t.db)
	return nil
}

// blockSegmentSize bounds the files of chunks in a block. The TSDB reserves a whole one on the
// disk when it begins a block: with its own 512 MiB a node that still accepts writes, down to
// --tsdb.min-free-disk, could not make the block that gives space back.
const blockSegmentSize = 64 << 20

// options returns the options of the tenant's TSDB. They keep an idle head small,
// because a node has many tenants, and leave the compaction of the head to package
// headcompact.
func (t *tenantDB) options() *tsdb.Options {
	c := t.cfg
	o := tsdb.DefaultOptions()
	o.RetentionDuration = c.Retention.Milliseconds()
	o.MaxBytes = c.MaxBytes
	o.NoLockfile = c.NoLockfile
	o.MinBlockDuration = c.MinBlockDuration.Milliseconds()
	o.MaxBlockDuration = c.MaxBlockDuration.Milliseconds()
	o.OutOfOrderTimeWindow = c.OutOfOrderWindow.Milliseconds()
	if c.OutOfOrderCap > 0 {
		o.OutOfOrderCapMax = c.OutOfOrderCap
	}
	o.MaxBlockChunkSegmentSize = blockSegmentSize
	o.EnableOverlappingCompaction = false
	o.EnableExemplarStorage = c.MaxExemplars > 0
	o.MaxExemplars = c.MaxExemplars
	if c.StartTimestamps {
		o.EnableSTStorage, o.EnableHistogramSTEncoding = true, true
		o.FloatChunkEncoding = chunkenc.EncXOR2
	}
	o.EnableMemorySnapshotOnShutdown = c.SnapshotOnClose
	o.IsolationDisabled = true
	o.HeadChunksWriteQueueSize = c.WriteQueueSize
	// Each stripe and each write buffer costs memory even when empty, for each
	// tenant.
	o.StripeSize = 512
	o.HeadChunksWriteBufferSize = 64 << 10
	o.WALCompression = compression.None
	if c.WALCompression {
		o.WALCompression = compression.Snappy
	}
	o.SeriesLifecycleCallback = seriesCallback{t}
	o.BlocksToDelete = t.blocksToDelete
	o.NewCompactorFunc = t.head.NewCompactor()
	return o
}

// limits returns the current limits of the tenant.
func (t *tenantDB) limits() Limits { return t.cfg.Limits(t.id) }

// enter begins a write, unless the TSDB is closed. Nothing is flushed or closed
// until leave is called.
func (t *tenantDB) enter() bool {
	if !t.head.BeginWrite() {
		return false
	}
	if t.leaving.Load() {
		t.head.EndWrite()
		return false
	}
	now := time.Now().UnixMilli()
	t.lastWrite.Store(now)
	t.lastUse.Store(now)
	return true
}

func (t *tenantDB) leave() { t.head.EndWrite() }

// commit commits what was appended, after other commits, or rolls it back if the log has failed.
func (t *tenantDB) commit(tx storage.AppenderTransaction) error {
	t.committing.Lock()
	defer t.committing.Unlock()
	defer crash()
	if t.logFailed.Load() {
		return errors.Join(errLogFailed, tx.Rollback())
	}
	err := tx.Commit()
	if err == nil && t.logFailed.Load() {
		err = errLogFailed // that of out-of-order samples
	}
	if err != nil {
		t.logFailed.Store(true)
	}
	return err
}

// crash, deferred, ends the process after a panic of the TSDB. A commit panics when the disk
// has no space for a chunk of the head, and leaves its series locked: if the handler of the
// request recovered the panic, all later writes and queries of the tenant would hang. The
// next start replays the log.
func crash() {
	p := recover()
	if p == nil {
		return
	}
	stack := debug.Stack()
	// No handler recovers a panic of another goroutine.
	go panic(fmt.Sprintf("commit to a TSDB: %v\n\n%s", p, stack))
	select {}
}

// acquire lets a reader in, unless the TSDB is closed.
func (t *tenantDB) acquire() bool {
	t.state.Lock()
	defer t.state.Unlock()
	if t.closed.Load() {
		return false
	}
	t.reading++
	t.readers.Add(1)
	return true
}

// release lets a reader out.
func (t *tenantDB) release() {
	t.state.Lock()
	defer t.state.Unlock()
	t.reading--
	t.readers.Done()
}

// closeIf closes the TSDB if the condition holds at a moment without a write, once
// its readers are done, unless it is being compacted. It reports whether the TSDB is
// closed.
func (t *tenantDB) closeIf(condition func() bool) (bool, error) {
	return t.head.CloseIf(func() bool {
		t.state.Lock()
		defer t.state.Unlock()
		if !condition() {
			return false
		}
		t.closed.Store(true)
		return true
	}, t.closeTSDB)
}

// closeForShutdown closes the TSDB, in any case, after the writes, compactions and queries that are
// under way. It reports whether the TSDB was open.
func (t *tenantDB) closeForShutdown(last func()) (bool, error) {
	t.head.Abort()
	return t.head.Close(func() error {
		t.state.Lock()
		last()
		t.closed.Store(true)
		t.state.Unlock()
		return t.closeTSDB()
	})
}

// closeTSDB closes the TSDB once its readers are done. No others can come.
func (t *tenantDB) closeTSDB() error {
	t.readers.Wait()
	t.registry.unregisterAll()
	t.metrics.forget(t.id)
	if err := t.db.Close(); err != nil {
		return fmt.Errorf("close the tsdb of tenant %s: %w", t.id, err)
	}
	return nil
}

// chunkQuerier opens a querier that counts as a reader; false when the TSDB is
// closed.
func (t *tenantDB) chunkQuerier(mint, maxt int64) (storage.ChunkQuerier, bool, error) {
	if !t.acquire() {
		return nil, false, nil
	}
	// Queries for times of which there is nothing do not keep a tenant open.
	if slices.ContainsFunc(t.db.Blocks(), func(b *tsdb.Block) bool { return b.OverlapsClosedInterval(mint, maxt) }) {
		t.lastUse.Store(time.Now().UnixMilli())
	}
	q, err := t.db.ChunkQuerier(mint, maxt)
	if err != nil {
		t.release()
		return nil, true, err
	}
	return &countedQuerier{ChunkQuerier: q, done: t.release}, true, nil
}

type countedQuerier struct {
	storage.ChunkQuerier
	once sync.Once
	done func()
}

func (q *countedQuerier) Close() error {
	err := q.ChunkQuerier.Close()
	q.once.Do(q.done)
	return err
}

// seriesCallback is called by the TSDB for series that come and go.
type seriesCallback struct{ t *tenantDB }

// PreCreation refuses series beyond the tenant's limit.
func (l seriesCallback) PreCreation(labels.Labels) error {
	db := l.t.opened.Load()
	if db == nil {
		return nil // the log is being replayed
	}
	if limit := l.t.limits().ActiveSeries; limit > 0 && db.Head().NumSeries() >= uint64(limit) {
		return fmt.Errorf("%w of %d active series on this node (head_series_limit)", errSeriesLimit, limit)
	}
	return nil
}

// PostCreation has nothing to do: the writer knows the reference.
func (l seriesCallback) PostCreation(labels.Labels) {}

// PostDeletion removes series that left the head from the cache.
func (l seriesCallback) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	l.t.cache.Remove(gone)
}

// stats describes the tenant.
func (t *tenantDB) stats() TenantStats {
	head := t.db.Head()
	s := TenantStats{
		Tenant: t.id, Series: head.NumSeries(), Blocks: len(t.db.Blocks()),
		SamplesPerSecond: t.rate.perSecond(time.Now()), SeriesLimit: uint64(max(t.limits().ActiveSeries, 0)),
	}
	if head.NumSeries() > 0 {
		s.MinTime, s.MaxTime = min(head.MinTime(), head.MinOOOTime()), head.MaxTime()
	}
	if start, err := t.startTime(); err == nil && len(t.db.Blocks()) > 0 {
		s.MinTime = start
		for _, b := range t.db.Blocks() {
			s.MaxTime = max(s.MaxTime, b.Meta().MaxTime)
		}
	}
	return s
}

var _ storeapi.Store = (*tsdbstore.Store)(nil)
