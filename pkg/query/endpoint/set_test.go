package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/connectivity"

	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the environment of the set: DNS, files and servers.
type world struct {
	mtx     sync.Mutex
	dns     map[string][]string
	dnsDown bool
	servers map[string]*server
	dials   map[string]int
	open    int
}

type server struct {
	info  storeapi.Info
	up    bool
	state connectivity.State
}

func newWorld() *world {
	return &world{dns: map[string][]string{}, servers: map[string]*server{}, dials: map[string]int{}}
}

func (w *world) LookupIPAddr(_ context.Context, host string) ([]net.IPAddr, error) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	if w.dnsDown {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host}
	}
	ips, ok := w.dns[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var out []net.IPAddr
	for _, ip := range ips {
		out = append(out, net.IPAddr{IP: net.ParseIP(ip)})
	}
	return out, nil
}

func (w *world) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	var out []*net.SRV
	for _, target := range w.dns[name] {
		out = append(out, &net.SRV{Target: target + ".", Port: 10901})
	}
	return "", out, nil
}

func (w *world) dial(_ Spec, address string, _ ClientConfig) (Client, error) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	w.dials[address]++
	w.open++
	return &fakeClient{world: w, address: address}, nil
}

type fakeClient struct {
	world   *world
	address string
	info    storeapi.Info
	storeapi.Store
}

func (c *fakeClient) server() (*server, bool) {
	c.world.mtx.Lock()
	defer c.world.mtx.Unlock()
	s, ok := c.world.servers[c.address]
	return s, ok && s.up
}

func (c *fakeClient) Refresh(context.Context) error {
	s, ok := c.server()
	if !ok {
		return errors.New("connection refused")
	}
	c.info = s.info
	return nil
}

func (c *fakeClient) Info() storeapi.Info { return c.info }

func (c *fakeClient) State() connectivity.State {
	if s, ok := c.server(); ok {
		return s.state
	}
	return connectivity.Ready
}

func (c *fakeClient) Select(context.Context, *storeapi.Request) storeapi.SeriesSet {
	return storeapi.EmptySet()
}

func (c *fakeClient) Metadata(context.Context, string, int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	return nil, nil, nil
}

func (c *fakeClient) Close() error {
	c.world.mtx.Lock()
	defer c.world.mtx.Unlock()
	c.world.open--
	return nil
}

// TestLifecycle runs transcripts: the configuration, the running servers, what DNS
// says, and which stores an answer is expected from.
func TestLifecycle(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			cfg := Config{
				Interval: 5 * time.Second, DNSInterval: 30 * time.Second, ExpectedTimeout: 5 * time.Minute,
				CloseDelay: 2 * time.Minute, Resolver: w, Dial: w.dial, Logger: slog.New(slog.DiscardHandler),
			}
			sdFile := filepath.Join(t.TempDir(), "sd.yml")
			require.NoError(t, os.WriteFile(sdFile, []byte("[]"), 0o600))
			var set *Set
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				if d.Cmd == "set" {
					cfg.Specs, cfg.SDFiles = parseSpecs(d), []string{sdFile}
					var err error
					if set, err = New(cfg); err != nil {
						return err.Error() + "\n"
					}
					return ""
				}
				return step(t, w, set, sdFile, d)
			})
			if set != nil {
				require.NoError(t, set.close())
				require.Zero(t, w.open, "connections are left open")
			}
		})
	})
}

func parseSpecs(d *datadriven.TestData) []Spec {
	var out []Spec
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		out = append(out, Spec{Address: f[0], Strict: slices.Contains(f, "strict"), Group: slices.Contains(f, "group")})
	}
	return out
}

func step(t *testing.T, w *world, set *Set, sdFile string, d *datadriven.TestData) string {
	switch d.Cmd {
	case "up":
		for line := range strings.Lines(d.Input) {
			addr, lset, _ := strings.Cut(strings.TrimSpace(line), " ")
			info := storeapi.Info{Component: "sidecar", MaxTime: 1 << 60}
			if lset != "" {
				k, v, _ := strings.Cut(lset, "=")
				info.LabelSets = []labels.Labels{labels.FromStrings(k, v)}
			}
			w.servers[addr] = &server{info: info, up: true, state: connectivity.Ready}
		}
	case "down":
		for addr := range strings.FieldsSeq(d.Input) {
			w.servers[addr].up = false
		}
	case "broken-connection":
		w.servers[strings.TrimSpace(d.Input)].state = connectivity.TransientFailure
	case "dns":
		w.dnsDown = strings.TrimSpace(d.Input) == "fails"
		if w.dnsDown {
			return ""
		}
		clear(w.dns)
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			w.dns[f[0]] = f[1:]
		}
	case "sd-file":
		require.NoError(t, os.WriteFile(sdFile, []byte(d.Input), 0o600))
	case "forget":
		if err := set.Forget(strings.TrimSpace(d.Input)); err != nil {
			return err.Error() + "\n"
		}
	case "refresh":
		var after string
		if d.HasArg("after") {
			d.ScanArgs(t, "after", &after)
			pause, err := time.ParseDuration(after)
			require.NoError(t, err)
			time.Sleep(pause)
		}
		set.Refresh(t.Context())
		return describe(set)
	case "ask":
		return ask(t, set)
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return ""
}

func describe(set *Set) string {
	var b strings.Builder
	for _, e := range set.Endpoints() {
		st := e.Status()
		state := "missing"
		if st.Up {
			state = "up"
		}
		fmt.Fprintf(&b, "%s %s", st.Name, state)
		for _, l := range st.Info.LabelSets {
			fmt.Fprintf(&b, " %s", l)
		}
		b.WriteString("\n")
	}
	if b.Len() == 0 {
		return "nobody\n"
	}
	return b.String()
}

func ask(t *testing.T, set *Set) string {
	var b strings.Builder
	for _, e := range set.Endpoints() {
		s := e.Select(t.Context(), &storeapi.Request{})
		require.False(t, s.Next())
		if err := s.Err(); err != nil {
			require.ErrorIs(t, err, storeapi.ErrUnavailable)
			fmt.Fprintf(&b, "%s\n", err)
		} else {
			fmt.Fprintf(&b, "store %s answers\n", e)
		}
		require.NoError(t, s.Close())
	}
	return b.String()
}

func TestReadyOnceAllAreTried(t *testing.T) {
	w := newWorld()
	set, err := New(Config{
		Specs: []Spec{{Address: "a:1"}, {Address: "dns+nowhere:1"}}, Interval: time.Second, Resolver: w, Dial: w.dial,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.Error(t, set.Ready())
	set.Refresh(t.Context())
	require.NoError(t, set.Ready())
	require.NoError(t, set.close())
	require.NotEmpty(t, set.Endpoints(), "a request that outlives the set misses its stores")
}

func TestWrongConfiguration(t *testing.T) {
	f := func(want string, specs ...Spec) {
		t.Helper()
		_, err := New(Config{Specs: specs, Interval: time.Second})
		require.ErrorContains(t, err, want)
	}
	f("needs the form host:port", Spec{Address: "host"})
	f(`unknown lookup type "foo"`, Spec{Address: "foo+host:1"})
	f("must not be found by discovery", Spec{Address: "dns+host:1", Strict: true})
	f("which only groups may have", Spec{Address: "host:1", ServiceConfig: "{}"})
	f("needs both cert_file and key_file", Spec{Address: "host:1", Client: &ClientConfig{TLS: TLSConfig{CertFile: "a"}}})
}

func TestParseFile(t *testing.T) {
	f, err := ParseFile("x.yml", []byte(`
default_client_config:
  tls_config: {enabled: true, ca_file: ca.pem}
endpoints:
- address: a:1
- address: dnssrv+b
  client_config: {tls_config: {enabled: false}}
- {address: "c:3", strict: true, group: true, service_config: '{}'}
`))
	require.NoError(t, err)
	require.Len(t, f.Specs(), 3)
	require.True(t, f.Specs()[2].Strict)
	require.False(t, f.Specs()[1].Client.resolved(*f.Default).TLS.on())
	require.True(t, f.Specs()[0].Client.resolved(*f.Default).TLS.on())

	_, err = ParseFile("x.yml", []byte("endpoints:\n- host: a:1\n"))
	require.ErrorContains(t, err, "x.yml")
	require.ErrorContains(t, err, "line 2")
	_, err = ParseFile("x.yml", []byte("endpoints:\n- {address: dns+a:1, strict: true}\n"))
	require.ErrorContains(t, err, "must not be found by discovery")
}

func TestClientConfig_KeepsItsOwnCompression(t *testing.T) {
	own := &ClientConfig{Compression: grpcsnappy.Name}
	require.Equal(t, grpcsnappy.Name, own.resolved(ClientConfig{}).Compression)
	require.Equal(t, grpcsnappy.Name, own.resolved(ClientConfig{Compression: CompressionNone}).Compression)
	require.Equal(t, grpcsnappy.Name, (&ClientConfig{}).resolved(*own).Compression)
}
