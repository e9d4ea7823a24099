package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/claim"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/deletion/mask"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/shipper"
	"github.com/hindsight-io/hindsight/pkg/sidecar/headship"
	"github.com/hindsight-io/hindsight/pkg/sidecar/outage"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Deps are what the process provides to a sidecar.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Bucket is where blocks go; nil ships nothing.
	Bucket bucket.Bucket
}

// Sidecar is the component.
type Sidecar struct {
	config  Config
	deps    Deps
	metrics *metrics
	client  *prom.Client
	source  *source
	store   *promStore
	// disk is nil when blocks are not read directly.
	disk *disk
	// claims is nil when no claim is made on the external labels.
	claims *claim.Keeper
	// deletions are the requests whose samples are hidden; nil without a bucket.
	deletions *deletion.Poller
}

const (
	// outageWait bounds how long a request waits for the head to be read from the log.
	outageWait = 5 * time.Second
	// outageRetry is the pause after the log could not be read.
	outageRetry = 10 * time.Second
)

// New makes a sidecar. It does not connect to Prometheus before Run.
func New(c Config, d Deps) (*Sidecar, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	httpConfig, err := c.client()
	if err != nil {
		return nil, err
	}
	httpConfig.Logger, httpConfig.File = d.Logger, c.Prometheus.Client.Path()
	client, err := prom.New(c.Prometheus.URL, httpConfig, "Hindsight/"+version.Version)
	if err != nil {
		return nil, flags.Invalid(err)
	}
	client.Measure(d.Registerer)
	m := newMetrics(d.Registerer)
	src := newSource(client, c.Prometheus.ConfigTimeout, d.Logger, m)
	minTime := c.MinTime
	s := &Sidecar{
		config: c, deps: d, metrics: m, client: client, source: src,
		store: &promStore{
			source:  src,
			metrics: m,
			minTime: func(now time.Time) int64 { return minTime.Millis(now) },
			limits:  storeapi.Bounds{Series: c.SeriesLimit, Samples: c.SampleLimit},
			answers: newLastKnown(c.Prometheus.LastKnownSize.Int64(), d.Registerer),
		},
	}
	if c.DirectReads {
		s.disk = newDisk(client, c.TSDBPath, d.Logger.With("component", "direct-reads"), m)
		s.store.blocks = s.disk.dir
		dir := cmp.Or(c.OutageDir, filepath.Join(c.TSDBPath, "thanos", "outage"))
		s.store.outage = outage.New(outage.Config{Path: c.TSDBPath, Temp: dir, Wait: outageWait, Retry: outageRetry},
			headConverter{memory: c.OutageMemory.Int64(), logger: s.disk.logger}, s.disk.logger, outage.NewMetrics(d.Registerer))
		src.last = newLastLabels(c.TSDBPath, dir)
	}
	if d.Bucket != nil && c.Shipper.ClaimInterval > 0 {
		s.claims = claim.NewKeeper(claim.Config{
			Bucket: d.Bucket, File: filepath.Join(c.TSDBPath, "thanos", "hindsight-source.json"), Directory: c.TSDBPath,
			Labels: src.external, Interval: c.Shipper.ClaimInterval,
			Logger: d.Logger.With("component", "claims"), Registerer: d.Registerer,
		})
		s.store.problems = s.claims.Warnings
	}
	if d.Bucket != nil && c.DeletionsInterval > 0 {
		s.deletions = deletion.NewPoller(d.Bucket, d.Logger.With("component", "deletions"), d.Registerer)
	}
	return s, nil
}

// RegisterHTTP adds nothing: a sidecar has no pages of its own.
func (s *Sidecar) RegisterHTTP(*http.ServeMux) {}

// RegisterGRPC adds the StoreAPI. Info fails while neither Prometheus answers nor its
// data directory can be read, so that queriers report this source as missing instead
// of empty.
func (s *Sidecar) RegisterGRPC(r grpc.ServiceRegistrar) {
	storerpc.RegisterStore(r, s.visible(), storerpc.ServerConfig{})
	storerpc.RegisterMetadata(r, s.store)
	storerpc.RegisterExemplars(r, s.store)
	storerpc.RegisterRules(r, s.store)
	storerpc.RegisterTargets(r, s.store)
	storerpc.RegisterStatus(r, s.store)
	storerpc.RegisterInfo(r, storerpc.InfoConfig{
		Info: s.store.Info,
		Services: storerpc.Services{
			Store: true, Metadata: true, Exemplars: true, Rules: true, Targets: true, Status: true,
		},
		Ready: s.store.ready,
	})
}

// visible is the store without the samples of the deletion requests of the bucket.
func (s *Sidecar) visible() storeapi.Store {
	if s.deletions == nil {
		return s.store
	}
	return mask.New(s.store, s.deletions, false)
}

// Ready is nil while Prometheus answers or its data directory can be read.
func (s *Sidecar) Ready() error { return s.store.ready() }

// Run waits for Prometheus, watches its configuration, ships its blocks and makes
// it reload its configuration until ctx is cancelled. It returns early when
// Prometheus does not become ready in time, has no external labels, or cuts blocks
// that cannot be shipped safely.
func (s *Sidecar) Run(ctx context.Context) error {
	defer s.client.Close()
	defer s.store.answers.close()
	g, ctx := errgroup.WithContext(ctx)
	if s.config.Reloader.enabled() {
		r := s.newReloader()
		g.Go(func() error { r.watcher.run(ctx); return nil })
		g.Go(func() error { r.run(ctx); return nil })
	}
	if d := s.disk; d != nil {
		w := newWatcher(d.logger)
		if checkDataDir(s.config.TSDBPath) == nil {
			w.set([]string{s.config.TSDBPath})
		}
		g.Go(func() error { w.run(ctx); return nil })
		g.Go(func() error {
			d.run(ctx, s.config.Prometheus.ConfigInterval, w.changes, s.store.outage.Answering)
			return nil
		})
		g.Go(func() error { s.store.outage.Run(ctx); return nil })
	}
	if s.deletions != nil {
		g.Go(func() error { s.deletions.Run(ctx, s.config.DeletionsInterval.Duration()); return nil })
	}
	g.Go(func() error { return s.serve(ctx, g) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serve waits for the first answer of Prometheus, starts shipping,
// and watches Prometheus until ctx is cancelled.
func (s *Sidecar) serve(ctx context.Context, g *errgroup.Group) error {
	if err := s.source.wait(ctx, s.config.Prometheus.ReadyTimeout); err != nil {
		if permanent(err) {
			return flags.Invalid(err)
		}
		return err
	}
	id, err := s.source.current()
	if err != nil {
		return err
	}
	s.deps.Logger.Info("connected to prometheus", "url", s.client.URL(), "label_set", id.external)

	if s.deps.Bucket != nil {
		ship, err := s.newShipping(ctx)
		if err != nil {
			return err
		}
		g.Go(func() error { ship.watcher.run(ctx); return nil })
		g.Go(func() error { ship.run(ctx); return ship.lock.Close() })
		if head := ship.head; head != nil {
			g.Go(func() error { head.Run(ctx); return nil })
		}
		if s.claims != nil {
			g.Go(func() error { s.claims.Run(ctx); return nil })
		}
	} else {
		s.deps.Logger.Info("shipping of blocks disabled", "reason", reason.NoBucket)
	}
	if every := s.config.Prometheus.LastKnownInterval; every > 0 {
		g.Go(func() error { s.store.refresh(ctx, every); return nil })
	}
	s.source.watch(ctx, s.config.Prometheus.ConfigInterval)
	return nil
}

// newReloader makes the reloader of Prometheus by HTTP or by signal.
func (s *Sidecar) newReloader() *reloader {
	logger := s.deps.Logger.With("component", "reloader")
	r := &reloader{
		fs: vfs.OS(), config: s.config.Reloader, logger: logger, metrics: newReloaderMetrics(s.deps.Registerer),
		reload: s.client.Reload, watcher: newWatcher(logger),
	}
	r.watcher.onEvent, r.watcher.onError = r.metrics.watchEvents.Inc, r.metrics.watchErrors.Inc
	if s.config.Reloader.Method == reloadSignal {
		signal := &signaller{
			send:  func() error { return sendReload("/proc", s.config.Reloader.ProcessName) },
			state: s.client.ReloadState,
		}
		r.reload = signal.reload
	}
	return r
}

// newShipping makes the shipping of blocks. It refuses a configuration of
// Prometheus with which a block could be lost.
func (s *Sidecar) newShipping(ctx context.Context) (*shipping, error) {
	if err := checkDataDir(s.config.TSDBPath); err != nil {
		return nil, err
	}
	promFlags, err := s.source.flags(ctx, s.config.Prometheus.ReadyTimeout)
	if err != nil {
		return nil, fmt.Errorf("read how Prometheus cuts blocks: %w", err)
	}
	if err := checkBlockDurations(promFlags, s.config); err != nil {
		return nil, err
	}
	logger := s.deps.Logger.With("component", "shipper")
	lock, err := lockUploads(s.config.TSDBPath, logger)
	if err != nil {
		return nil, err
	}
	c := s.config.Shipper
	ship := shipper.New(shipper.Config{
		Dir:             s.config.TSDBPath,
		StateFile:       c.MetaFileName,
		Source:          "sidecar",
		UploadCompacted: c.UploadCompacted,
		AllowOutOfOrder: c.AllowOutOfOrderUploads,
		SkipCorrupted:   c.SkipCorruptedBlocks,
		Concurrency:     c.UploadConcurrency,
		Hash:            c.HashFunc != "",
		Columns:         c.Columns,
		BlockDuration:   blockDuration(promFlags),
		RecheckInterval: c.RecheckInterval,
	}, shipper.Deps{
		Bucket:  s.deps.Bucket,
		Labels:  s.source.external,
		Logger:  logger,
		Metrics: shipper.NewMetrics(s.deps.Registerer),
	})
	w := newWatcher(logger)
	w.set([]string{s.config.TSDBPath})
	check := func(ctx context.Context) error {
		promFlags, err := s.client.Flags(ctx)
		if err != nil {
			return err
		}
		return checkBlockDurations(promFlags, s.config)
	}
	head, err := s.newHeadShipping(ship.Shipped)
	if err != nil {
		w.close()
		return nil, errors.Join(err, lock.Close())
	}
	return &shipping{
		shipper: ship, head: head, lock: lock, watcher: w, logger: logger, metrics: s.metrics, check: check, checked: time.Now(),
	}, nil
}

// newHeadShipping makes the shipping of the logs of the head, or nil if it is off.
// shipped says whether a block is in the bucket.
func (s *Sidecar) newHeadShipping(shipped func(ulid.ULID) bool) (*headship.Shipper, error) {
	if s.config.Shipper.HeadInterval == 0 {
		return nil, nil
	}
	return headship.New(headship.Config{Dir: s.config.TSDBPath, Interval: s.config.Shipper.HeadInterval}, headship.Deps{
		Bucket: s.deps.Bucket, Labels: s.source.external, Shipped: shipped,
		Logger: s.deps.Logger.With("component", "head-shipper"), Registerer: s.deps.Registerer,
		Running: func(ctx context.Context) bool { _, err := s.client.Flags(ctx); return err == nil },
	})
}
