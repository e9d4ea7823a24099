package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/version"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/deletion/mask"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/grpcmetrics"
	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/httpserver"
	"github.com/hindsight-io/hindsight/pkg/receive/capnpserver"
	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/metamonitor"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb"
	"github.com/hindsight-io/hindsight/pkg/receive/peer"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
	"github.com/hindsight-io/hindsight/pkg/shipper"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/tenant"
	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/webconfig"
)

// Deps are the dependencies of a Receive.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Bucket receives the blocks; nil keeps them on the node.
	Bucket bucket.Bucket
	// GRPCAddress is the address of the gRPC server; its port identifies
	// this node in the hashring without --receive.local-endpoint.
	GRPCAddress string
	// GRPCTLS names the files of the TLS of the gRPC server, which the server of Cap'n
	// Proto has too; none for plain text.
	GRPCTLS tlsconfig.ServerFiles
}

// Receive is the role. It implements server.Component.
type Receive struct {
	cfg     Config
	logger  *slog.Logger
	metrics *metrics
	host    hashring.Host
	loops   *loops
	own     labels.Labels
	tenants tenant.Source
	relabel atomic.Pointer[[]*relabel.Config]
	tls     *tlsconfig.Server // nil without flags for TLS
	web     *webconfig.File   // nil without a web configuration file
	// protected is whether the gRPC or the remote write server has TLS or passwords.
	protected bool
	capnpTLS  *tlsconfig.Server // that of gRPC; nil for plain text
	peerTLS   *tlsconfig.Client // nil for plain text

	db    *multitsdb.DB
	reads *fanout.Store
	// deletions are the requests of the bucket whose samples are hidden; nil without
	// a bucket.
	deletions *deletion.Poller
	bucket    bucket.Bucket     // nil without one
	writer    *replicate.Writer // nil without a hashring
	peers     *peer.Service

	// middleware is that of the write listener; nil without one.
	middleware func(mux *http.ServeMux, next http.Handler) http.Handler

	// membership finds the members of the hashring; nil when the configuration lists them.
	membership    *membership
	downscale     downscale
	limits        *tenantlimits.Limits
	ringSeries    *metamonitor.Monitor // nil without a hashring
	memory        *semaphore.Weighted  // bytes of requests under way
	bodies        *bodies
	limitsContent []byte

	ringMu      sync.Mutex // one load at a time; guards ringContent
	ringContent []byte
	ringLabels  atomic.Pointer[[]hashring.Spec]
	ready       atomic.Pointer[string]
	listening   atomic.Pointer[net.TCPAddr]
	warned      atomic.Int64 // Unix seconds of the last warning about a write
}

type metrics struct {
	requests     *prometheus.CounterVec
	duration     prometheus.Histogram
	samples      prometheus.Counter
	ringFailures prometheus.Counter

	limitsFailures prometheus.Counter
	ringReads      prometheus.Counter
	ringMembers    *prometheus.GaugeVec
	replicas       prometheus.Gauge
}

// newMetrics registers the metrics of write requests and of the configuration files.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_receive_requests_total",
			Help: "Write requests, by HTTP status.",
		}, []string{"code"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "hindsight_receive_request_duration_seconds",
			Help:    "Time from the first byte of a write request to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		samples: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_samples_total",
			Help: "Samples and histograms in write requests.",
		}),
		ringFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_hashring_refused_total",
			Help: "New versions of the hashring that were rejected.",
		}),
		limitsFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_limits_refused_total",
			Help: "New versions of the limits file that were rejected.",
		}),
		ringReads: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_receive_hashring_reads_total", Help: "Readings of the hashring configuration.",
		}),
		ringMembers: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hindsight_receive_hashring_members", Help: "Members of the hashrings in use, by hashring.",
		}, []string{"hashring"}),
		replicas: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_receive_replication_factor", Help: "Copies of each series (--receive.replication-factor).",
		}),
	}
	m.requests.WithLabelValues(strconv.Itoa(http.StatusOK))
	for kind := remotewrite.Other; kind <= remotewrite.Unavailable; kind++ {
		m.requests.WithLabelValues(strconv.Itoa(kind.Status()))
	}
	return m
}

// New makes the role. Errors of the configuration are marked with flags.Invalid.
func New(cfg Config, deps Deps) (*Receive, error) {
	r := &Receive{cfg: cfg, logger: deps.Logger, metrics: newMetrics(deps.Registerer)}
	r.metrics.replicas.Set(float64(cfg.ReplicationFactor))
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if r.host, err = newHost(&cfg, deps.GRPCAddress); err != nil {
		return nil, err
	}
	r.loops = newLoops(r.logger)
	r.own = cfg.external(r.host.Name)
	r.tenants = tenant.Source{
		CertificateField: cfg.TenantCertField, Default: cfg.DefaultTenant,
		Headers: []string{cfg.TenantHeader, tenant.Header, tenant.OrgHeader},
	}
	rules, err := readRelabel(&cfg.Relabel)
	if err != nil {
		return nil, err
	}
	r.relabel.Store(&rules)
	if r.web, err = webconfig.Open("--remote-write.http-config", cfg.RemoteWriteConfigFile, r.logger); err != nil {
		return nil, err
	}
	if r.tls, err = cfg.ServerTLS.server(r.logger); err != nil {
		return nil, flags.Invalid(fmt.Errorf("TLS of the remote write server: %w", err))
	}
	if r.capnpTLS, err = tlsconfig.NewServer("Cap'n Proto server", deps.GRPCTLS, r.logger); err != nil {
		return nil, flags.Invalid(fmt.Errorf("TLS of the Cap'n Proto server: %w", err))
	}
	r.protected = r.capnpTLS != nil || r.tls != nil || r.web != nil
	if r.peerTLS, err = cfg.ClientTLS.client(r.logger); err != nil {
		return nil, flags.Invalid(fmt.Errorf("TLS to peers: %w", err))
	}
	if cfg.hasRing() {
		r.ringSeries = metamonitor.New("Hindsight/"+version.Version, r.logger, deps.Registerer)
	}
	if err := r.openLimits(); err != nil {
		return nil, err
	}
	r.memory = semaphore.NewWeighted(cfg.MaxInflightBytes.Int64())
	r.bodies = newBodies(cfg.MaxInflightBytes.Int64(), cfg.MaxRequestBytes.Int64())
	grpcsnappy.Register()
	r.db = multitsdb.New(r.storage(deps), r.logger, deps.Registerer)
	r.reads = fanout.New(r.db.Stores, fanout.Config{Component: "receive", Ready: r.db.Opened, Logger: r.logger})
	if deps.Bucket != nil {
		r.deletions, r.bucket = deletion.NewPoller(deps.Bucket, r.logger, deps.Registerer), deps.Bucket
	}
	// Relabelling may make requests larger, and peers may have a higher limit.
	r.peers = peer.New(r.db, peer.ServiceConfig{
		Limit: 8 * cfg.MaxRequestBytes.Int64(), Arrived: r.loops.arrived, State: r.memberState, Stored: r.forwarded,
	})
	if cfg.hasRing() {
		if cfg.discovers() {
			if r.membership, err = newMembership(r, deps); err != nil {
				return nil, err
			}
		} else if _, _, err := cfg.readRings(); err != nil {
			return nil, flags.Invalid(err)
		}
		r.writer = replicate.NewWriter(r.replication(deps), r.logger, deps.Registerer)
	}
	r.waitFor(storageToOpen)
	return r, nil
}

func readRelabel(pc *flags.PathOrContent) ([]*relabel.Config, error) {
	rules, err := flags.RelabelRules(pc)
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("relabelling rules: %w", err))
	}
	return rules, nil
}

// recheckInterval is long because a node can have very many tenants.
const recheckInterval = 24 * time.Hour

// storage returns the configuration of the TSDBs, and of the shippers of their blocks if
// there is a bucket.
func (r *Receive) storage(deps Deps) multitsdb.Config {
	t := r.cfg.TSDB
	c := multitsdb.Config{
		Dir: t.Path, SyncInterval: r.cfg.syncInterval, Retention: t.Retention.Duration(), MaxBytes: t.MaxBytes.Int64(), MinFreeDisk: t.MinFreeDisk.Int64(),
		MinBlockDuration: t.MinBlock.Duration(), MaxBlockDuration: t.MaxBlock.Duration(),
		OutOfOrderWindow: t.OutOfOrderWindow.Duration(), OutOfOrderCap: t.OutOfOrderCap,
		FutureWindow: t.FutureWindow.Duration(), PastWindow: t.PastWindow.Duration(), MaxExemplars: t.MaxExemplars, StartTimestamps: t.StartTimestamps,
		WALCompression: t.WALCompression, NoLockfile: t.NoLockfile, WriteQueueSize: t.WriteQueueSize,
		SnapshotOnClose: t.SnapshotOnClose, FlushOnClose: deps.Bucket != nil,
		External: r.external, Limits: r.tenantLimits, TenantRetention: r.tenantRetention,
		MaxTenants: func() int { return r.limits.Current().MaxTenants },
	}
	if deps.Bucket == nil {
		return c
	}
	m := shipper.NewMetrics(deps.Registerer)
	c.NewShipper = func(id, dir string, external func() labels.Labels) multitsdb.Shipper {
		return shipper.New(shipper.Config{
			Dir: dir, Source: "receive", Concurrency: t.UploadConcurrency, Hash: t.HashFunc != "", Columns: t.Columns,
			// Blocks are merged only with a hidden flag, and then perhaps before they are shipped.
			UploadCompacted: true,
			AllowOutOfOrder: t.AllowOutOfOrder, SkipCorrupted: t.SkipCorrupted, RecheckInterval: recheckInterval,
		}, shipper.Deps{Bucket: deps.Bucket, Labels: external, Logger: r.logger.With("tenant", id), Metrics: m})
	}
	return c
}

func (r *Receive) replication(deps Deps) replicate.Config {
	c := &r.cfg
	measured := grpcmetrics.ClientOptions(deps.Registerer)
	return replicate.Config{
		Replicas: c.ReplicationFactor, Local: r.db,
		Dial: func(address string) (replicate.Node, error) {
			creds := grpc.WithTransportCredentials(r.peerTLS.Credentials())
			return c.dial(address, append(append(r.loops.sign(address), creds), measured...)...)
		},
		Timeout: c.ForwardTimeout.Duration(), MaxBackoff: c.ForwardMaxBackoff.Duration(),
		QueueBytes: c.ForwardQueue.Int64(), MessageBytes: 4 << 20, Lanes: max(c.ForwardWorkers, 1),
		HintsDir: c.TSDB.Path, HintsBytes: c.HintsBytes.Int64(),
	}
}

func (r *Receive) waitFor(what string) { r.ready.Store(&what) }

const storageToOpen = "the storage to open"

// Ready returns nil when the node takes writes and answers queries, otherwise an
// error with the step that it waits for.
func (r *Receive) Ready() error {
	if what := r.ready.Load(); what != nil {
		if *what == storageToOpen {
			return fmt.Errorf("receive waits for %s: %.0f %% of the write-ahead log is read", *what, 100*r.db.Replayed())
		}
		return errors.New("receive waits for " + *what)
	}
	return nil
}

// Store returns the samples of all tenants on this node, without those of deletion
// requests. It is a storeapi.ExemplarStore, too.
func (r *Receive) Store() storeapi.Store {
	if r.deletions == nil {
		return r.reads
	}
	return withoutDeleted{mask.New(r.reads, r.deletions, false), r.reads}
}

// withoutDeleted is a Store that hides samples, with the exemplars of the whole one.
type withoutDeleted struct {
	*mask.Store
	storeapi.ExemplarStore
}

// Metadata returns the metadata that senders sent to this node.
func (r *Receive) Metadata() storeapi.MetadataStore { return r.db }

// TSDBStatus returns the status of the TSDBs of this node.
func (r *Receive) TSDBStatus() storeapi.TSDBStatusStore { return r.db }

// Appendable stores samples of a tenant on this node, past the ring: for the
// program's own metrics. It fails while the node is not ready.
func (r *Receive) Appendable(id string) storage.Appendable { return r.db.Appendable(id) }

// RegisterGRPC adds the StoreAPI and the services for peers.
func (r *Receive) RegisterGRPC(g grpc.ServiceRegistrar) {
	storerpc.RegisterStore(g, r.cfg.Reads.Store(r.Store()), storerpc.ServerConfig{})
	storerpc.RegisterInfo(g, storerpc.InfoConfig{Info: r.info, Services: storerpc.Services{Store: true, Metadata: true, Exemplars: true, Status: true}, Ready: r.Ready})
	storerpc.RegisterMetadata(g, r.db)
	storerpc.RegisterExemplars(g, r.reads)
	storerpc.RegisterStatus(g, r.db)
	r.peers.Register(g)
}

// info describes this node to queriers. New samples may come at any time, so the
// time range has no end, even while all tenants are idle.
func (r *Receive) info() storeapi.Info {
	i := r.reads.Info()
	if len(i.LabelSets) == 0 {
		return i
	}
	i.MaxTime = math.MaxInt64
	for j := range i.TSDBs {
		i.TSDBs[j].MaxTime = math.MaxInt64
	}
	return i
}

// Drain ends the streams of peers. Their next writes use new streams, or become
// hints while this node is down.
func (r *Receive) Drain() { r.peers.Drain() }

// Run opens the storage, serves writes until ctx is cancelled, and stops in order:
// no new writes, the queues of peers, heads to blocks, uploads.
func (r *Receive) Run(ctx context.Context) error {
	capnp, err := r.listenCapnp()
	if err != nil {
		return err
	}
	srv, err := r.listen()
	if err != nil {
		if capnp != nil {
			err = errors.Join(err, capnp.Close())
		}
		return err
	}
	g, running := errgroup.WithContext(ctx)
	if capnp != nil {
		s := capnpserver.New(r.db, r.cfg.MaxRequestBytes.Int64(), r.logger)
		g.Go(func() error { return s.Serve(running, capnp) })
	}
	if srv != nil {
		g.Go(func() error {
			if err := srv.Serve(); err != nil {
				return fmt.Errorf("serve remote write on %s: %w", srv.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error { return r.work(running) })
	g.Go(func() error {
		<-running.Done()
		r.waitFor("the end: it is stopping")
		return r.stop(context.WithoutCancel(ctx), srv)
	})
	return g.Wait()
}

// work opens the storage, loads the hashring and runs the background work.
func (r *Receive) work(ctx context.Context) error {
	if r.writer != nil && r.membership == nil {
		// An invalid ring fails before a long replay, not after it.
		if _, _, _, err := r.findSelf(ctx); err != nil {
			return flags.Invalid(err)
		}
	}
	// Earlier versions had a directory for hints, which Thanos would open as a tenant.
	if err := replicate.AdoptHints(vfs.OS(), filepath.Join(r.cfg.TSDB.Path, ".hints"), r.cfg.TSDB.Path); err != nil {
		r.logger.Error("hints of an earlier version not moved", "err", err)
	}
	if err := r.db.Open(ctx); err != nil {
		return err
	}
	g, running := errgroup.WithContext(ctx)
	if r.membership != nil {
		// Discovery may not answer for hours. Blocks of members that are discovered have no
		// labels of the ring, so shipping, compaction and deletions do not wait for it.
		r.maintain(running, g)
	}
	g.Go(func() error {
		if r.writer != nil {
			if err := r.openRing(running); err != nil {
				return flags.Invalid(err)
			}
		}
		waited := r.ready.Load()
		select {
		case <-running.Done():
			return nil
		default:
		}
		if !r.ready.CompareAndSwap(waited, nil) {
			return nil // stopping has begun
		}
		r.logger.Info("ready for writes")
		if r.membership == nil {
			r.maintain(running, g)
		}
		g.Go(func() error { return r.askRing(running) })
		return r.watchRing(running)
	})
	return g.Wait()
}

// maintain starts what keeps the storage of the node in order, whether it takes writes or not.
func (r *Receive) maintain(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return r.db.Run(ctx) })
	g.Go(func() error { return r.watchLimits(ctx) })
	g.Go(func() error { return r.followDeletions(ctx) })
}

// stopTimeout bounds each step of stopping.
const stopTimeout = 2 * time.Minute

func (r *Receive) stop(ctx context.Context, srv *httpserver.Server) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var errs []error
	if srv != nil {
		errs = append(errs, srv.HTTP().Shutdown(ctx))
	}
	if r.writer != nil {
		errs = append(errs, r.writer.Close())
	}
	errs = append(errs, r.db.Close(ctx))
	return errors.Join(errs...)
}
