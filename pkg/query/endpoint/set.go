package endpoint

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/grpcmetrics"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is the configuration of the set of endpoints.
type Config struct {
	// Specs come from flags.
	Specs []Spec
	// File returns the endpoint configuration, read again on each call; nil
	// when there is none.
	File func() (*File, error)
	// FileInterval is how often File is called.
	FileInterval time.Duration
	// SDFiles are patterns of Prometheus file_sd files.
	SDFiles []string
	// Client is how to connect unless a spec says otherwise.
	Client ClientConfig
	// DNSInterval is how often names are looked up again.
	DNSInterval time.Duration
	// Interval is how often each store is asked about itself, and how long it
	// may take to answer.
	Interval time.Duration
	// ExpectedTimeout is how long a store that discovery no longer names is still
	// expected: after discovery lost it while it answers, and else after it
	// answered last.
	ExpectedTimeout time.Duration
	// CloseDelay is how long the connection of a dropped store stays open for
	// the requests that use it.
	CloseDelay time.Duration
	// FrameTimeout is how long a store may be silent in the middle of an
	// answer; 0 means as long as the request may take.
	FrameTimeout time.Duration
	// Hedge lets requests to endpoint groups try a second member.
	Hedge bool
	// Resolver looks names up; nil means the system's.
	Resolver Resolver
	// Dial connects; nil means gRPC.
	Dial       DialFunc
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// DialFunc makes a client; it does not wait for the connection.
type DialFunc func(spec Spec, address string, cfg ClientConfig) (Client, error)

// Set is the set of endpoints. Create it with New and keep it fresh with Run.
type Set struct {
	cfg     Config
	metrics *metrics
	current atomic.Pointer[[]*Endpoint]
	tried   atomic.Bool
	// instance identifies this querier to others, for as long as it runs.
	instance string
	// reread says that the file is to be read at the next refresh, whatever its
	// interval; woken makes Run refresh now.
	reread atomic.Bool
	woken  chan struct{}

	// The rest belongs to Run.
	endpoints map[string]*Endpoint
	retired   []retired
	file      *File
	fileRead  time.Time
	sdAddrs   []string
	// sdMissing are the patterns that no file matches.
	sdMissing []string
	dns       map[string]dnsResult
}

type retired struct {
	endpoint *Endpoint
	closeAt  time.Time
}

type dnsResult struct {
	addrs []string
	at    time.Time
	// err is the error of the last lookup; addrs are those found before.
	err error
}

// New returns the set; a wrong configuration is an error.
func New(cfg Config) (*Set, error) {
	for _, s := range cfg.Specs {
		if err := s.Validate(); err != nil {
			return nil, err
		}
	}
	if err := cfg.Client.Validate(); err != nil {
		return nil, err
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Dial == nil {
		cfg.Dial = (&dialer{resolver: cfg.Resolver, interval: cfg.DNSInterval, frameTimeout: cfg.FrameTimeout, logger: cfg.Logger, options: grpcmetrics.ClientOptions(cfg.Registerer)}).dial
	}
	s := &Set{cfg: cfg, metrics: newMetrics(cfg.Registerer), woken: make(chan struct{}, 1), endpoints: map[string]*Endpoint{}, dns: map[string]dnsResult{}, instance: ulid.Make().String()}
	s.current.Store(&[]*Endpoint{})
	if cfg.File != nil {
		f, err := cfg.File()
		if err != nil {
			return nil, err
		}
		s.file, s.fileRead = f, time.Now()
	}
	if _, _, err := readSDFiles(cfg.SDFiles); err != nil {
		return nil, err
	}
	return s, nil
}

// Run keeps the set fresh until ctx is cancelled, then closes all connections.
func (s *Set) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.cfg.Interval)
	defer ticker.Stop()
	for {
		s.Refresh(ctx)
		select {
		case <-ticker.C:
		case <-s.woken:
		case <-ctx.Done():
			return s.close()
		}
	}
}

// Reload makes Run read the endpoint configuration and the discovery files now.
// When one of them is invalid, nothing changes and it returns the error. It may be
// called concurrently.
func (s *Set) Reload() error {
	if s.cfg.File != nil {
		if _, err := s.cfg.File(); err != nil {
			s.metrics.reloadFailures.Inc()
			return err
		}
	}
	if _, _, err := readSDFiles(s.cfg.SDFiles); err != nil {
		s.metrics.reloadFailures.Inc()
		return err
	}
	s.reread.Store(true)
	s.wake()
	return nil
}

// Endpoints returns all that are expected, up or not, in the order of their
// names. The slice must not be changed.
func (s *Set) Endpoints() []*Endpoint { return *s.current.Load() }

// Instance identifies the querier that has this set. It is announced to clients,
// so that a querier recognises itself among its endpoints.
func (s *Set) Instance() string { return s.instance }

// Ready is nil once every configured endpoint has been tried.
func (s *Set) Ready() error {
	if !s.tried.Load() {
		return errors.New("the configured stores have not all been tried yet")
	}
	return nil
}

// Refresh discovers, asks every endpoint about itself, and drops those that
// are no longer expected. It must not be called concurrently, nor beside Run.
func (s *Set) Refresh(ctx context.Context) {
	now := time.Now()
	// Before discovery, so that a name takes the place of its last address.
	s.drop(now)
	s.connect(s.discover(ctx, now), now)
	s.drop(now)
	// A new endpoint is expected from now on, not only once it has answered.
	var wg sync.WaitGroup
	for _, e := range s.publish() {
		wg.Go(func() {
			if e.refresh(ctx, s.cfg.Interval, time.Now) && ctx.Err() == nil {
				s.logChange(e.Status())
			}
		})
	}
	wg.Wait()
	s.drop(now) // those that were replaced
	all := s.publish()
	if ctx.Err() == nil {
		s.tried.Store(true)
	}
	s.metrics.observe(all)
}

// publish makes Endpoints return the present endpoints, in a slice of its own: the one
// before may still be read.
func (s *Set) publish() []*Endpoint {
	all := s.sorted()
	s.current.Store(&all)
	return all
}

func (s *Set) logChange(st Status) {
	if st.Up && st.Info.Instance == s.instance {
		s.cfg.Logger.Warn("endpoint is this querier itself", "address", st.Name)
		return
	}
	if st.Up {
		s.cfg.Logger.Info("store is up", "address", st.Name, "component", st.Info.Component, "label_sets", len(st.Info.LabelSets))
		return
	}
	s.cfg.Logger.Warn("store is missing", "address", st.Name, "contacted", st.Contacted, "err", st.LastError)
}

// want is an address to connect to.
type want struct {
	spec   Spec
	client ClientConfig
	// discovered says that DNS or a file found the address.
	discovered bool
	// err is not nil when discovery finds no address for the spec.
	err error
}

// discover returns all addresses that are configured or found. Sources that
// fail keep their last result.
func (s *Set) discover(ctx context.Context, now time.Time) map[string]want {
	def := s.cfg.Client
	if reread := s.reread.Swap(false); s.cfg.File != nil && (reread || now.Sub(s.fileRead) >= s.cfg.FileInterval) {
		s.fileRead = now
		if f, err := s.cfg.File(); err != nil {
			s.metrics.reloadFailures.Inc()
			s.cfg.Logger.Warn("endpoint configuration not reloaded", "err", err)
		} else {
			s.file = f
		}
	}
	var specs []Spec
	if s.file != nil {
		specs = append(specs, s.file.Specs()...)
		if d := s.file.Default; d != nil {
			compression := def.Compression
			def = d.resolved(ClientConfig{})
			def.Compression = compression
		}
	}
	specs = append(specs, s.cfg.Specs...)
	if addrs, unmatched, err := readSDFiles(s.cfg.SDFiles); err != nil {
		s.metrics.reloadFailures.Inc()
		s.cfg.Logger.Warn("discovery files not reloaded", "err", err)
	} else {
		s.sdAddrs, s.sdMissing = addrs, unmatched
	}
	return s.addresses(ctx, now, specs, def)
}

// connect creates the new endpoints and notes those that discovery no longer
// names. It replaces an endpoint whose connection settings have changed.
func (s *Set) connect(wanted map[string]want, now time.Time) {
	for addr, w := range wanted {
		old, ok := s.endpoints[addr]
		if ok && old.spec.equal(w.spec) {
			old.mtx.Lock()
			old.departed, old.forgotten = time.Time{}, false
			old.mtx.Unlock()
			continue
		}
		client := s.client(addr, w)
		if ok {
			s.retire(old, now)
		}
		s.endpoints[addr] = &Endpoint{
			name: addr, spec: w.spec, client: client, discovered: w.discovered, self: s.instance, logger: s.cfg.Logger,
			pace: pace{most: s.cfg.FrameTimeout},
		}
		if w.spec.Group && s.cfg.Hedge {
			s.endpoints[addr].hedge = &hedge{metrics: s.metrics, tokens: hedgeBurst}
		}
	}
	for addr, e := range s.endpoints {
		if _, ok := wanted[addr]; ok {
			continue
		}
		e.mtx.Lock()
		if e.departed.IsZero() {
			e.departed = now
		}
		e.mtx.Unlock()
	}
}

// client connects to the address. One to which that is not possible is missing
// until its configuration changes.
func (s *Set) client(addr string, w want) Client {
	if w.err != nil {
		return broken{err: w.err}
	}
	client, err := s.cfg.Dial(w.spec, addr, w.client)
	if err != nil {
		s.cfg.Logger.Warn("store connection failed", "address", addr, "err", err)
		return broken{err: err}
	}
	return client
}

func (s Spec) equal(o Spec) bool {
	sameClient := s.Client == o.Client || (s.Client != nil && o.Client != nil && s.Client.equal(*o.Client))
	return s.Strict == o.Strict && s.Group == o.Group && s.ServiceConfig == o.ServiceConfig && sameClient
}

func (c ClientConfig) equal(o ClientConfig) bool {
	same := func(a, b *bool) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	if !same(c.TLS.Enabled, o.TLS.Enabled) || !same(c.TLS.InsecureSkipVerify, o.TLS.InsecureSkipVerify) {
		return false
	}
	c.TLS.Enabled, c.TLS.InsecureSkipVerify = o.TLS.Enabled, o.TLS.InsecureSkipVerify
	return c == o
}

// drop removes the endpoints that are no longer expected.
func (s *Set) drop(now time.Time) {
	for _, e := range s.sorted() {
		if s.expected(e, now) {
			continue
		}
		delete(s.endpoints, e.name)
		s.retire(e, now)
		s.cfg.Logger.Info("store removed from the expected set", "address", e.name)
	}
	s.retired = slices.DeleteFunc(s.retired, func(r retired) bool {
		if now.Before(r.closeAt) {
			return false
		}
		s.closeEndpoint(r.endpoint)
		return true
	})
}

func (s *Set) retire(e *Endpoint, now time.Time) {
	s.retired = append(s.retired, retired{endpoint: e, closeAt: now.Add(s.cfg.CloseDelay)})
}

func (s *Set) closeEndpoint(e *Endpoint) {
	if err := e.client.Close(); err != nil {
		s.cfg.Logger.Warn("closing store connection failed", "address", e.name, "err", err)
	}
}

func (s *Set) sorted() []*Endpoint {
	out := make([]*Endpoint, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Endpoint) int { return strings.Compare(a.name, b.name) })
	return out
}

// close closes all connections. Endpoints still returns the endpoints, so that a request
// that outlives the set misses them; without any its answer would look complete.
func (s *Set) close() error {
	for _, e := range s.endpoints {
		s.closeEndpoint(e)
	}
	for _, r := range s.retired {
		s.closeEndpoint(r.endpoint)
	}
	clear(s.endpoints)
	s.retired = nil
	return nil
}
