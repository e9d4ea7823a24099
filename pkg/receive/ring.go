package receive

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
)

// hasRing says that this node distributes writes over a hashring.
func (c *Config) hasRing() bool { return c.HashringsFile != "" || c.Hashrings != "" }

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
	specs, err := hashring.Parse(content)
	if err != nil {
		return nil, nil, fmt.Errorf("hashring configuration %s: %w", source, err)
	}
	rings, err = hashring.New(specs, hashring.Options{
		Algorithm: hashring.Algorithm(c.HashringAlgorithm), Replicas: c.ReplicationFactor,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("hashring configuration %s: %w", source, err)
	}
	return content, rings, nil
}

// host is what this machine calls itself.
type host struct {
	name      string
	addresses map[string]bool
	grpcPort  string
}

func newHost(grpcAddress string) (host, error) {
	name, err := os.Hostname()
	if err != nil {
		return host{}, fmt.Errorf("find out the name of this host: %w", err)
	}
	h := host{name: name, addresses: map[string]bool{"localhost": true}}
	if _, port, err := net.SplitHostPort(grpcAddress); err == nil {
		h.grpcPort = port
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return host{}, fmt.Errorf("find out the addresses of this host: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			h.addresses[n.IP.String()] = true
		}
	}
	return h, nil
}

// is says whether an address in a hashring is this host's: the port of the gRPC
// server, and the host's name (alone or as the first part of a longer one, as
// in a StatefulSet) or one of its addresses.
func (h host) is(address string) bool {
	name, port, err := net.SplitHostPort(address)
	if err != nil || h.grpcPort != "" && port != h.grpcPort {
		return false
	}
	return name == h.name || strings.HasPrefix(name, h.name+".") || h.addresses[name]
}

// findSelf returns this node's address in the rings: the one given by flag, or
// the only one that is this host's. "" means that this node only routes.
func findSelf(flag string, rings *hashring.Rings, h host) (string, error) {
	var mine []string
	listed := false
	for _, s := range rings.Specs() {
		for _, e := range s.Endpoints {
			listed = listed || e.Is(flag)
		}
	}
	for _, a := range hashring.Addresses(rings.Specs()) {
		if h.is(a) {
			mine = append(mine, a)
		}
	}
	switch {
	case flag != "" && !listed && len(mine) == 1 && h.grpcPort != "":
		return "", fmt.Errorf("this node is %s in the hashring, but --receive.local-endpoint is %s, which is not: "+
			"it would send its own share to itself over the network; set --receive.local-endpoint=%s", mine[0], flag, mine[0])
	case flag != "":
		return flag, nil
	case len(mine) > 1:
		return "", fmt.Errorf("several endpoints of the hashring are this host (%s): name this node with --receive.local-endpoint",
			strings.Join(mine, ", "))
	case len(mine) == 1:
		return mine[0], nil
	}
	return "", nil
}

// loadRing switches to the hashring of the configuration; nothing happens when
// it has not changed.
func (r *Receive) loadRing(ctx context.Context) error {
	content, rings, err := r.cfg.readRings()
	if err != nil {
		return err
	}
	if r.ringContent != nil && bytes.Equal(content, r.ringContent) {
		return nil
	}
	self, err := findSelf(r.cfg.LocalEndpoint, rings, r.host)
	if err != nil {
		return err
	}
	if err := r.writer.SetRings(ctx, rings, self); err != nil {
		return err
	}
	r.ringContent = content
	specs := rings.Specs()
	r.ringLabels.Store(&specs)
	mode := "router and ingestor"
	if self == "" {
		mode = "router"
	}
	r.logger.Info("hashring loaded", "hashrings", len(specs), "members", len(hashring.Addresses(specs)), "self", self, "mode", mode)
	return nil
}

// watchRing reads the hashring again when its file changes, and regularly. A
// broken one is reported and the last good one stays.
func (r *Receive) watchRing(ctx context.Context) error {
	if r.cfg.HashringsFile == "" {
		<-ctx.Done()
		return nil
	}
	changed := make(chan struct{}, 1)
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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			// Several events come for one change; the last of them counts.
			time.AfterFunc(100*time.Millisecond, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
			continue
		case err := <-watcher.Errors:
			r.logger.Warn("watching the hashring file failed, it is still read regularly", "err", err)
			continue
		case <-changed:
		case <-ticker.C:
		}
		if err := r.loadRing(ctx); err != nil {
			r.metrics.ringFailures.Inc()
			r.logger.Error("new hashring refused, the last good one stays", "err", err)
		}
	}
}

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
