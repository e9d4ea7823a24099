package discovery

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/receive/discovery/kubetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names is a DNS server.
type names struct {
	hosts map[string][]string
	srv   map[string][]*net.SRV
	err   error
}

func (n names) LookupNetIP(_ context.Context, _, host string) (out []netip.Addr, err error) {
	if n.err != nil {
		return nil, n.err
	}
	for _, ip := range n.hosts[host] {
		out = append(out, netip.MustParseAddr(ip))
	}
	if out == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, nil
}

func (n names) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if service != "" || proto != "" {
		return "", nil, errors.New("a whole name is expected")
	}
	if n.srv[name] == nil {
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return name, n.srv[name], n.err
}

func found(t *testing.T, s Source) (out []string) {
	r, err := s.Fetch(t.Context(), false)
	require.NoError(t, err)
	for _, f := range r.Found {
		out = append(out, f.Address)
	}
	return out
}

func TestDNS_FindsMembersByStableNames(t *testing.T) {
	dns := names{
		hosts: map[string][]string{"receive.example": {"10.0.0.1", "::ffff:10.0.0.2", "fd00::1"}},
		srv: map[string][]*net.SRV{"_grpc._tcp.receive.monitoring.svc": {
			{Target: "Receive-1.receive.monitoring.svc.cluster.local.", Port: 10901},
			{Target: "receive-0.receive.monitoring.svc.cluster.local.", Port: 10902},
		}},
	}
	for address, want := range map[string][]string{
		"a.example:1":                                   {"a.example:1"},
		"dns+receive.example:10901":                     {"10.0.0.1:10901", "10.0.0.2:10901", "[fd00::1]:10901"},
		"dns+absent.example:10901":                      nil,
		"dnssrv+_grpc._tcp.receive.monitoring.svc":      {"receive-1.receive.monitoring.svc.cluster.local:10901", "receive-0.receive.monitoring.svc.cluster.local:10902"},
		"dnssrvnoa+_grpc._tcp.receive.monitoring.svc:7": {"receive-1.receive.monitoring.svc.cluster.local:7", "receive-0.receive.monitoring.svc.cluster.local:7"},
		"dnssrv+_grpc._tcp.absent":                      nil,
	} {
		s, err := Parse(address, Config{Resolver: dns})
		require.NoError(t, err, address)
		require.Equal(t, want, found(t, s), address)
	}
	dns.err = errors.New("server misbehaving")
	for _, address := range []string{"dns+receive.example:10901", "dnssrv+_grpc._tcp.receive.monitoring.svc"} {
		s, err := Parse(address, Config{Resolver: dns})
		require.NoError(t, err)
		_, err = s.Fetch(t.Context(), false)
		require.ErrorContains(t, err, "server misbehaving")
	}
}

func TestParse_RefusesOtherForms(t *testing.T) {
	for address, want := range map[string]string{
		"receive": "form host:port", "dns+receive": "form dns+host:port", "dnssrv+": "no name", "etcd+a:1": "unknown kind",
		"k8s+receive:grpc": "form k8s+<service>", "k8s+receive.monitoring.pod:grpc": "form k8s+<service>", ":1": "form host:port",
		"k8s+receive.monitoring.svc:grpc": "KUBERNETES_SERVICE_HOST",
	} {
		_, err := Parse(address, Config{})
		require.ErrorContains(t, err, want, address)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "1")
	_, err := Parse("k8s+receive.monitoring.svc:grpc", Config{Credentials: t.TempDir()})
	require.ErrorContains(t, err, "--receive.kubernetes-credentials")
}

// cluster is a source on a server of the API, with its watch.
type cluster struct {
	*endpoints
	t       *testing.T
	api     *kubetest.Server
	dir     string
	changed chan struct{}
}

func newCluster(t *testing.T, log *strings.Builder) *cluster {
	c := &cluster{t: t, changed: make(chan struct{}, 100), dir: t.TempDir()}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.api, err = kubetest.Start(lis, c.dir, "receive", "monitoring")
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(lis.Addr().String())
	require.NoError(t, err)
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	s, err := Parse("k8s+receive.monitoring.svc.cluster.local:grpc", Config{Credentials: c.dir, Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	c.endpoints = s.(*endpoints)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func() {
			select {
			case c.changed <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, c.api.Close())
		c.endpoints.api.client.CloseIdleConnections()
	})
	return c
}

// eventually waits for the addresses that Fetch returns, and returns the sizes of the
// StatefulSets.
func (c *cluster) eventually(want ...string) (pods map[string]int) {
	c.t.Helper()
	var got []string
	deadline := time.After(20 * time.Second)
	for {
		r, err := c.Fetch(c.t.Context(), false)
		got = nil
		for _, f := range r.Found {
			got = append(got, f.Pod+"="+f.Address)
		}
		if err == nil && slices.Equal(got, want) {
			return r.Pods
		}
		select {
		case <-c.changed:
		case <-deadline:
			require.Equal(c.t, want, got, "%v", err)
		}
	}
}

func pod(n string, port int) kubetest.Pod {
	return kubetest.Pod{Name: "receive-" + n, Hostname: "receive-" + n, IP: "10.0.0." + n, Port: port}
}

func TestEndpointSlices_AreListedAndWatched(t *testing.T) {
	log := &strings.Builder{}
	c := newCluster(t, log)
	const p0, p1 = "receive-0=receive-0.receive.monitoring.svc.cluster.local:10901", "receive-1=receive-1.receive.monitoring.svc.cluster.local:10907"
	c.eventually()
	c.api.Scale("receive", 2)
	c.api.Put(pod("0", 10901))
	require.Equal(t, map[string]int{"receive": 2}, c.eventually(p0))
	c.api.Put(pod("1", 10907))
	c.eventually(p0, p1)
	// An endpoint without a name has its address; a Deployment has no numbers.
	c.api.Put(kubetest.Pod{Name: "router-7d9f-x2k", IP: "10.0.0.9", Port: 10901})
	c.eventually(p0, p1, "router-7d9f-x2k=10.0.0.9:10901")
	c.api.Delete("router-7d9f-x2k")
	c.eventually(p0, p1)

	// The size is read with the change that the deletion of a pod makes.
	c.api.Scale("receive", 1)
	gone := pod("1", 10907)
	gone.Terminating = true
	c.api.Put(gone)
	require.Eventually(t, func() bool { return c.eventually(p0, p1)["receive"] == 1 }, 10*time.Second, time.Millisecond)
	c.api.Scale("receive", 3)
	r, err := c.Fetch(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, 3, r.Pods["receive"], "a fresh answer")

	// A version that the server no longer has, and a server that fails for a time.
	c.api.Forget()
	c.api.Delete("receive-1")
	c.eventually(p0)
	c.api.SetDown(true)
	require.Eventually(t, func() bool { _, err := c.Fetch(t.Context(), false); return err != nil }, 10*time.Second, time.Millisecond)
	_, err = c.Fetch(t.Context(), true)
	require.ErrorContains(t, err, "etcd is down")
	c.api.Put(pod("1", 10907))
	c.api.SetDown(false)
	c.eventually(p0, p1)

	// The kubelet replaces the token.
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "token"), []byte("old"), 0o600))
	_, err = c.Fetch(t.Context(), true)
	require.ErrorContains(t, err, "status 401: Unauthorized")
	require.Empty(t, log.String())
}

func TestEndpointSlices_WithoutTheRightToReadStatefulSets(t *testing.T) {
	log := &strings.Builder{}
	c := newCluster(t, log)
	c.api.Deny()
	c.api.Put(pod("0", 10901))
	require.Empty(t, c.eventually("receive-0=receive-0.receive.monitoring.svc.cluster.local:10901"))
	_, err := c.Fetch(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(log.String(), "size of the StatefulSet not known"))
}
