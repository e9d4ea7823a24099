package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/headerbundle"
	"github.com/hindsight-io/hindsight/pkg/block/markhttp"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/deletion/mask"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/store/columncache"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Poller reads a bucket into a view of its blocks.
type Poller interface {
	Poll(ctx context.Context) (*blocklist.View, error)
}

// Deps are the dependencies of a gateway on its process.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer // may be nil
	Bucket     bucket.Reader
	// Poller lists the blocks; nil means one over Bucket.
	Poller Poller
	// Marks is the bucket for marks that are requested over HTTP, and for blocks of
	// recovered head logs; nil refuses the marks and recovers nothing.
	Marks bucket.Bucket
	// MarkGuard keeps compactors from a block that is marked; nil if none works on Marks.
	MarkGuard markhttp.Guard
	// Evaluates are the settings with which the process evaluates queries over Store,
	// for Info; empty if it does not.
	Evaluates string
}

const (
	maxRead       = 16 << 20 // bytes of one request to the bucket
	parallelReads = 128
	headersDir    = "index-headers"
	pagesDir      = "page-cache"
	columnsDir    = "column-cache"
)

// Gateway serves the blocks of a bucket.
type Gateway struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	m    *metrics

	pages  *pagecache.Cache
	budget *pagecache.Budget
	env    *bucketblock.Env
	gate   chan struct{} // has one element for each request that is starting
	begun  atomic.Uint64 // number of requests that have begun
	// admission is for requests that are large by what they read.
	admission *admission

	syncing sync.Mutex // held during a sync
	mu      sync.RWMutex
	blocks  blocks                              // as of the last sync
	listed  atomic.Pointer[[]storeapi.TSDBInfo] // contiguous ranges of the blocks; nil before the first sync
	damage  quarantine
	resync  chan struct{} // asks Run for a sync
	// deletions are the requests whose samples Store hides.
	deletions *deletion.Poller
	reports   deletionReports // guarded by syncing
}

// New makes a gateway. It reads nothing from the bucket before Run.
func New(cfg Config, deps Deps) (*Gateway, error) {
	memory, err := cfg.memoryBytes()
	if err != nil {
		return nil, err
	}
	selector, err := cfg.selector()
	if err != nil {
		return nil, err
	}
	if deps.Poller == nil {
		deps.Poller = blocklist.NewPoller(deps.Bucket, blocklist.Config{
			Concurrency: cfg.MetaFetchConcurrency, Logger: deps.Logger, Registerer: deps.Registerer,
		})
	}
	g := &Gateway{
		resync: make(chan struct{}, 1),
		cfg:    cfg,
		deps:   deps,
		log:    deps.Logger,
		gate:   make(chan struct{}, cfg.MaxConcurrency),
		budget: pagecache.NewBudget("--chunk-pool-size", cfg.ChunkPoolSize.Int64()),

		deletions: deletion.NewPoller(deps.Bucket, deps.Logger, deps.Registerer),
		reports:   newDeletionReports(cfg.DataDir),
	}
	g.admission = newAdmission(cfg.largeRequests(), cfg.LargeRequestWait.Duration())
	g.blocks.selector = selector
	g.m = newMetrics(deps.Registerer, g)
	g.pages, err = pagecache.New(deps.Bucket, pagecache.Config{
		MemoryBytes: memory,
		DiskBytes:   cfg.DiskCacheSize.Int64(),
		DiskDir:     filepath.Join(cfg.DataDir, pagesDir),
		RequestCost: cfg.RequestCost.Int64(),
		MaxRead:     maxRead,
		Concurrency: parallelReads,
	}, deps.Registerer)
	if err != nil {
		return nil, err
	}
	columns, err := openColumns(&cfg, deps.Registerer)
	if err != nil {
		return nil, errors.Join(err, g.pages.Close())
	}
	g.env = &bucketblock.Env{
		Bucket:     deps.Bucket,
		Pages:      g.pages,
		Columns:    columns,
		HeaderGate: make(chan struct{}, cfg.BlockSyncConcurrency),
		LazyRatio:  cfg.LazyPostingsRatio,
		Eager:      !cfg.LazyPostings,
		Logger:     deps.Logger,
	}
	if cfg.CacheIndexHeader {
		g.env.HeaderDir = filepath.Join(cfg.DataDir, headersDir)
		g.env.Bundles, g.env.HeaderWanted = headerbundle.NewReader(deps.Bucket), g.serves
		if err := os.MkdirAll(g.env.HeaderDir, 0o777); err != nil {
			return nil, fmt.Errorf("create the directory for index headers: %w", err)
		}
	}
	return g, nil
}

// columnsMinAge is how long the column cache keeps chunks at least: a query of more data than
// it holds would otherwise replace what others use, and encode all of it each time.
const columnsMinAge = 10 * time.Minute

// openColumns returns nil when there is no column cache. It is used with the page cache on
// disk, which keeps other processes out of the directory.
func openColumns(cfg *Config, reg prometheus.Registerer) (*columncache.Cache, error) {
	if cfg.DiskCacheSize.Int64() == 0 || cfg.ColumnCacheSize.Int64() == 0 {
		return nil, nil
	}
	c, err := columncache.Open(vfs.OS(), columncache.Config{
		Dir: filepath.Join(cfg.DataDir, columnsDir), Bytes: cfg.ColumnCacheSize.Int64(), MinAge: columnsMinAge,
	}, reg)
	if err != nil {
		return nil, fmt.Errorf("--store.column-cache-size: %w", err)
	}
	return c, nil
}

// Store returns the gateway as a source of series, without the samples of deletion
// requests.
func (g *Gateway) Store() storeapi.Store { return mask.New(g, g.deletions, true) }

// errNotListed says that the gateway does not know the blocks of the bucket.
var errNotListed = errorid.With(errorid.NotReady, errors.New("bucket not listed yet"))

// Ready is nil once the bucket has been listed, and the deletion requests in it.
func (g *Gateway) Ready() error {
	if g.listed.Load() == nil {
		return errNotListed
	}
	return nil
}

// Run lists the bucket every --sync-block-duration until ctx is cancelled. After a
// listing that failed it waits retryPause at most, and serves the blocks of the last
// one.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.close()
	var heads sync.WaitGroup
	defer heads.Wait()
	listed := make(chan struct{}, 1)
	heads.Go(func() { g.recoverHeads(ctx, listed) })
	heads.Go(func() { g.deletions.Run(ctx, g.cfg.DeletionsInterval.Duration()) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // when the last sync ended
	idle := time.NewTicker(max(g.cfg.IndexHeaderIdleTimeout/2, time.Second))
	defer idle.Stop()
	freeing := time.NewTicker(freeAfter)
	defer freeing.Stop()
	memory := idleness{unused: unusedMemory, free: debug.FreeOSMemory}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-idle.C:
			g.unloadIdle(now)
		case <-freeing.C:
			memory.tick(g.begun.Load(), g.budget.Used() > 0)
		case <-g.resync:
			timer.Reset(max(0, min(g.cfg.SyncInterval, retryPause)-time.Since(last)))
		case <-timer.C:
			pause := g.cfg.SyncInterval
			if err := g.sync(ctx); err != nil && ctx.Err() == nil {
				g.log.Error("bucket listing failed", "err", err)
				pause = min(pause, retryPause)
			} else if err == nil {
				select {
				case listed <- struct{}{}:
				default: // a recovery is running
				}
			}
			last = time.Now()
			timer.Reset(pause)
		}
	}
}

// retryPause is the time after which a failed listing is repeated, and the least time
// between two listings that damaged or missing objects cause.
const retryPause = 30 * time.Second
