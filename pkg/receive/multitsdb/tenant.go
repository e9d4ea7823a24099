package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// tenantDB is the TSDB of one tenant.
type tenantDB struct {
	id     string
	dir    string
	cfg    *Config
	logger *slog.Logger
	db     *tsdb.DB
	// opened is db for what the TSDB calls from its own goroutines.
	opened   atomic.Pointer[tsdb.DB]
	cache    *seriesCache
	metadata familyMetadata
	store    *tsdbstore.Store
	shipper  Shipper
	metrics  *metrics
	registry *tenantRegisterer
	replay   *tsdb.DBStats

	// gate is held for reading by writes, and for writing while the head is
	// flushed as a whole.
	gate sync.RWMutex
	// readers counts open queriers; the TSDB may not be closed before they are.
	readers sync.WaitGroup
	state   sync.Mutex
	closed  bool

	lastWrite atomic.Int64 // Unix milliseconds
	rate      meter
}

func (d *DB) openTenant(id string) (*tenantDB, error) {
	t := &tenantDB{
		id: id, dir: filepath.Join(d.cfg.Dir, id), cfg: &d.cfg, metrics: d.metrics,
		logger: d.logger.With("tenant", id), cache: newSeriesCache(),
		registry: newTenantRegisterer(d.reg, id), replay: d.replay.begin(id),
	}
	if err := os.MkdirAll(t.dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the directory of tenant %s: %w", id, err)
	}
	external := func() labels.Labels { return d.cfg.External(id) }
	if d.cfg.NewShipper != nil {
		t.shipper = d.cfg.NewShipper(id, t.dir, external)
	}
	t.lastWrite.Store(time.Now().UnixMilli())
	if err := t.openTSDB(); err != nil {
		return nil, fmt.Errorf("open the tsdb of tenant %s: %w", id, err)
	}
	t.store = tsdbstore.New(guarded{t}, tsdbstore.Config{Component: "receive", External: external})
	return t, nil
}

// openTSDB repairs what is damaged and opens the TSDB. It never waits for a
// human: what cannot be read is set aside, counted and logged.
func (t *tenantDB) openTSDB() error {
	damaged, err := salvageLogs(t.dir)
	if err != nil {
		return err
	}
	if damaged > 0 {
		t.metrics.damaged.WithLabelValues("wal-record").Add(float64(damaged))
		t.logger.Error("damaged records of the write-ahead log were taken out, all others are used",
			"records", damaged, "originals", filepath.Join(t.dir, damagedDir))
	}
	moved, err := setBadBlocksAside(t.dir)
	if err != nil {
		return err
	}
	if len(moved) > 0 {
		t.metrics.damaged.WithLabelValues("block").Add(float64(len(moved)))
		t.logger.Error("blocks that cannot be opened were set aside", "blocks", moved, "to", filepath.Join(t.dir, damagedDir))
	}
	if t.db, err = tsdb.Open(t.dir, t.logger, t.registry.orNil(), t.options(), t.replay); err != nil {
		t.registry.unregisterAll()
		return err
	}
	t.opened.Store(t.db)
	return nil
}

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
	o.EnableOverlappingCompaction = false
	o.EnableExemplarStorage = c.MaxExemplars > 0
	o.MaxExemplars = c.MaxExemplars
	if c.StartTimestamps {
		o.EnableSTStorage, o.EnableHistogramSTEncoding = true, true
		o.XOR2EncodingAllowed, o.FloatChunkEncoding = true, chunkenc.EncXOR2
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
	o.SeriesLifecycleCallback = lifecycle{t}
	o.BlocksToDelete = t.blocksToDelete
	return o
}

// limits of the tenant at this moment.
func (t *tenantDB) limits() Limits { return t.cfg.Limits(t.id) }

// Write implements the write of one batch under the gate.
func (t *tenantDB) Write(ctx context.Context, b *remotewrite.Batch, series []uint32) error {
	t.gate.RLock()
	defer t.gate.RUnlock()
	if t.isClosed() {
		return errClosed
	}
	for _, m := range b.Metadata() {
		if err := t.metadata.family(m); err != nil {
			return err
		}
	}
	t.lastWrite.Store(time.Now().UnixMilli())
	return t.write(ctx, b, series)
}

func (t *tenantDB) isClosed() bool {
	t.state.Lock()
	defer t.state.Unlock()
	return t.closed
}

// acquire lets a reader in.
func (t *tenantDB) acquire() error {
	t.state.Lock()
	defer t.state.Unlock()
	if t.closed {
		return errClosed
	}
	t.readers.Add(1)
	return nil
}

// close waits for readers and writers and closes the TSDB. Closing again does
// nothing.
func (t *tenantDB) close() error {
	_, err := t.closeIf(func() bool { return true })
	return err
}

// closeIf closes the TSDB when the condition holds at a moment when no write is
// under way, and says whether it did.
func (t *tenantDB) closeIf(condition func() bool) (bool, error) {
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.isClosed() || !condition() {
		return false, nil
	}
	t.state.Lock()
	t.closed = true
	t.state.Unlock()
	t.readers.Wait()
	t.registry.unregisterAll()
	t.metrics.forget(t.id)
	if err := t.db.Close(); err != nil {
		return true, fmt.Errorf("close the tsdb of tenant %s: %w", t.id, err)
	}
	return true, nil
}

// guarded is the TSDB with its readers counted.
type guarded struct{ t *tenantDB }

func (g guarded) StartTime() (int64, error) { return g.t.db.StartTime() }

func (g guarded) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	if err := g.t.acquire(); err != nil {
		return nil, err
	}
	q, err := g.t.db.ChunkQuerier(mint, maxt)
	if err != nil {
		g.t.readers.Done()
		return nil, err
	}
	return &countedQuerier{ChunkQuerier: q, done: g.t.readers.Done}, nil
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

// lifecycle hears of series that come and go.
type lifecycle struct{ t *tenantDB }

// PreCreation refuses series beyond the tenant's limit.
func (l lifecycle) PreCreation(labels.Labels) error {
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
func (l lifecycle) PostCreation(labels.Labels) {}

// PostDeletion takes series that left the head out of the cache.
func (l lifecycle) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	c := l.t.cache
	var raw []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref, ls := range gone {
		raw = remotewrite.AppendLabels(raw[:0], ls)
		c.remove(c.hash(raw), ls, storage.SeriesRef(ref))
	}
	c.shrink()
}

// Appendable appends to the tenant as to any Prometheus storage, for the
// program's own metrics.
func (t *tenantDB) Appender(ctx context.Context) storage.Appender { return t.db.Appender(ctx) }

// stats describes the tenant for people.
func (t *tenantDB) stats() TenantStats {
	head := t.db.Head()
	s := TenantStats{
		Tenant: t.id, Series: head.NumSeries(), Blocks: len(t.db.Blocks()),
		SamplesPerSecond: t.rate.perSecond(time.Now()), SeriesLimit: uint64(max(t.limits().ActiveSeries, 0)),
	}
	if head.NumSeries() > 0 {
		s.MinTime, s.MaxTime = head.MinTime(), head.MaxTime()
	}
	if start, err := t.db.StartTime(); err == nil && len(t.db.Blocks()) > 0 {
		s.MinTime = start
		for _, b := range t.db.Blocks() {
			s.MaxTime = max(s.MaxTime, b.Meta().MaxTime)
		}
	}
	return s
}

// removeAll deletes the tenant's files after close.
func (t *tenantDB) removeAll() error {
	if !t.isClosed() {
		return errors.New("BUG: remove of an open tenant")
	}
	return os.RemoveAll(t.dir)
}

var _ storeapi.Store = (*tsdbstore.Store)(nil)
