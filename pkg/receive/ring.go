package receive

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
)

// hasRing reports whether this node distributes writes over a hashring.
func (c *Config) hasRing() bool { return c.HashringsFile != "" || c.Hashrings != "" || c.discovers() }

// readRings reads and checks the hashring configuration.
func (c *Config) readRings() (content []byte, rings *hashring.Rings, err error) {
	source := "--receive.hashrings"
	content = []byte(c.Hashrings)
	if c.HashringsFile != "" {
		source = c.HashringsFile
		if content, err = os.ReadFile(c.HashringsFile); err != nil {
			return nil, nil, fmt.Errorf("read the hashring file: %w", err)
		}
	}
	rings, err = c.parseRings(source, content)
	return content, rings, err
}

// parseRings makes the rings of a configuration, which source names in errors.
func (c *Config) parseRings(source string, content []byte) (*hashring.Rings, error) {
	specs, err := hashring.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("hashring configuration %s: %w", source, err)
	}
	rings, err := hashring.New(specs, hashring.Options{
		Algorithm: hashring.Algorithm(c.HashringAlgorithm), Replicas: c.ReplicationFactor,
	})
	if err != nil {
		return nil, fmt.Errorf("hashring configuration %s: %w", source, err)
	}
	return rings, nil
}

// newHost reads the name and the addresses of this machine.
func newHost(c *Config, grpcAddress string) (hashring.Host, error) {
	name, err := os.Hostname()
	if err != nil {
		return hashring.Host{}, fmt.Errorf("read the name of this host: %w", err)
	}
	h := hashring.Host{Name: name, Listen: grpcAddress, Write: c.RemoteWriteAddress, Given: c.LocalEndpoint}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return hashring.Host{}, fmt.Errorf("list the addresses of this host: %w", err)
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok {
			h.Addresses = append(h.Addresses, ip)
		}
	}
	return h, nil
}

// resolveTimeout bounds the DNS look-ups when a ring is loaded. Names without an
// answer are compared as they are.
const resolveTimeout = 2 * time.Second

// resolve looks up the names of the members in DNS.
func resolve(ctx context.Context, rings *hashring.Rings) map[string][]netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var (
		g   errgroup.Group
		mu  sync.Mutex
		out = map[string][]netip.Addr{}
	)
	g.SetLimit(16)
	for _, address := range hashring.Addresses(rings.Specs()) {
		name, _, err := net.SplitHostPort(address)
		if _, isIP := netip.ParseAddr(name); err != nil || isIP == nil {
			continue
		}
		g.Go(func() error {
			if ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name); err == nil {
				mu.Lock()
				defer mu.Unlock()
				out[name] = ips
			}
			return nil
		})
	}
	_ = g.Wait() // names without an answer are no errors
	return out
}

// openRing loads the first hashring.
func (r *Receive) openRing(ctx context.Context) error {
	if r.membership != nil {
		return r.membership.open(ctx)
	}
	r.waitFor("the hashring")
	return r.loadRing(ctx)
}

// findSelf reads the hashring and finds this node in it; rings is nil when the
// configuration is the one in use, and while no members are known.
func (r *Receive) findSelf(ctx context.Context) (content []byte, rings *hashring.Rings, self hashring.Self, err error) {
	if r.membership != nil {
		content, rings, err = r.membership.rings()
	} else {
		content, rings, err = r.cfg.readRings()
	}
	if err != nil {
		return nil, nil, self, err
	}
	if rings == nil || r.ringContent != nil && bytes.Equal(content, r.ringContent) {
		return content, nil, self, nil
	}
	if self, err = hashring.FindSelf(rings.Specs(), r.host, resolve(ctx, rings)); err != nil {
		return nil, nil, self, fmt.Errorf("hashring configuration: %w", err)
	}
	return content, rings, self, nil
}

// loadRing switches to the hashring of the configuration; nothing happens when
// it has not changed.
func (r *Receive) loadRing(ctx context.Context) error {
	r.ringMu.Lock()
	defer r.ringMu.Unlock()
	r.metrics.ringReads.Inc()
	content, rings, self, err := r.findSelf(ctx)
	if err != nil || rings == nil {
		return err
	}
	if err := r.writer.SetRings(ctx, rings, self.Address); err != nil {
		return err
	}
	r.ringContent = content
	if r.membership != nil && self.Address != "" {
		r.membership.self.Store(&self.Address)
	}
	specs := rings.Specs()
	r.ringLabels.Store(&specs)
	r.metrics.ringMembers.Reset()
	for i := range specs {
		r.metrics.ringMembers.WithLabelValues(specs[i].Name).Set(float64(len(specs[i].Endpoints)))
	}
	r.loops.reset()
	mode := "router and ingestor"
	if self.Address == "" {
		mode = "router"
	}
	r.logger.Info("hashring loaded", "hashrings", len(specs), "members", len(hashring.Addresses(specs)), "address", self.Address, "mode", mode)
	for _, note := range hashring.Notes(specs) {
		r.logger.Warn("hashring configuration without effect", "err", note)
	}
	if self.Note != "" {
		r.logger.Warn("node is not in the hashring; running as router only", "err", self.Note)
	}
	return nil
}

// watchRing loads the hashring when its file changes, and regularly. An invalid
// version is reported once, and the last valid one stays in use.
func (r *Receive) watchRing(ctx context.Context) error {
	if r.membership != nil {
		return r.membership.watch(ctx)
	}
	if r.cfg.HashringsFile == "" {
		<-ctx.Done()
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the hashring file: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	// The directory is watched: files are replaced by renaming, and Kubernetes
	// swaps a link.
	if err := watcher.Add(filepath.Dir(r.cfg.HashringsFile)); err != nil {
		return fmt.Errorf("watch the hashring file: %w", err)
	}
	ticker := time.NewTicker(r.cfg.HashringRefresh.Duration())
	defer ticker.Stop()
	// One change causes several events, which are handled together.
	var settled <-chan time.Time
	refused := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			if settled == nil {
				settled = time.After(settleTime)
			}
			continue
		case err := <-watcher.Errors:
			r.logger.Warn("watching the hashring file failed", "err", err)
			continue
		case <-settled:
			settled = nil
		case <-ticker.C:
		}
		switch err := r.loadRing(ctx); {
		case err == nil:
			refused = ""
		case err.Error() != refused:
			refused = err.Error()
			r.metrics.ringFailures.Inc()
			r.logger.Error("hashring rejected", "err", err)
		}
	}
}

// settleTime is the time between the first event and the reading of the file. It
// does not start again with later events, which may be about other files.
const settleTime = 100 * time.Millisecond

// external returns the external labels of a tenant's data: those of the
// hashring, overridden by those of this node, and the tenant.
func (r *Receive) external(id string) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	if specs := r.ringLabels.Load(); specs != nil {
		for k, v := range hashring.ExternalLabels(*specs, id) {
			b.Set(k, v)
		}
	}
	r.own.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	b.Set(r.cfg.TenantLabel, id)
	return b.Labels()
}
