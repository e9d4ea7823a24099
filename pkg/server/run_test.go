package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// recorder is a component that records the order of its calls.
type recorder struct {
	ready   chan struct{} // closed when ready
	release chan struct{} // ends the slow request
	entered chan struct{}
	events  chan string
	fail    error
}

func (c *recorder) RegisterHTTP(mux *http.ServeMux) {
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(c.entered)
		<-c.release
		c.events <- "request done"
		_, _ = io.WriteString(w, "slow answer")
	})
}
func (c *recorder) RegisterGRPC(grpc.ServiceRegistrar) {}

func (c *recorder) Ready() error {
	select {
	case <-c.ready:
		return nil
	default:
		return errors.New("waiting for the test")
	}
}

func (c *recorder) Run(ctx context.Context) error {
	if c.fail != nil {
		return c.fail
	}
	<-ctx.Done()
	c.events <- "component stopped"
	return nil
}

func newRecorder() *recorder {
	return &recorder{
		ready: make(chan struct{}), release: make(chan struct{}), entered: make(chan struct{}),
		events: make(chan string, 10),
	}
}

func testConfig() Config {
	c := Config{HTTPAddress: "127.0.0.1:0", GRPC: true, GRPCAddress: "127.0.0.1:0", GRPCMaxMessageSize: 1 << 20}
	_ = c.HTTPGracePeriod.Set("1m")
	_ = c.GRPCGracePeriod.Set("1m")
	return c
}

func start(t *testing.T, comp Component) (a Addresses, stop func(), ended chan error) {
	t.Helper()
	return startWith(t, testConfig(), comp)
}

func startWith(t *testing.T, cfg Config, comp Component) (a Addresses, stop func(), ended chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan Addresses, 1)
	ended = make(chan error, 1)
	go func() {
		ended <- Run(ctx, cfg, comp, Deps{
			Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
			Started: func(a Addresses) { started <- a },
		})
	}()
	return <-started, cancel, ended
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

func TestRun_StopsInOrder(t *testing.T) {
	defer goleak.VerifyNone(t)
	defer http.DefaultClient.CloseIdleConnections()
	comp := newRecorder()
	a, stop, ended := start(t, comp)

	code, _ := get(t, "http://"+a.HTTP+"/-/healthy")
	require.Equal(t, http.StatusOK, code)
	code, body := get(t, "http://"+a.HTTP+"/-/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "waiting for the test")
	close(comp.ready)
	code, _ = get(t, "http://"+a.HTTP+"/-/ready")
	require.Equal(t, http.StatusOK, code)
	_, body = get(t, "http://"+a.HTTP+"/metrics")
	require.Contains(t, body, "promhttp_metric_handler_requests_total")

	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + a.HTTP + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-comp.entered
	stop()
	require.Eventually(t, func() bool {
		code, body := get(t, "http://"+a.HTTP+"/-/ready")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "shutting down")
	}, 10*time.Second, 10*time.Millisecond)
	code, _ = get(t, "http://"+a.HTTP+"/slow")
	require.Equal(t, http.StatusServiceUnavailable, code, "no new requests while stopping")

	close(comp.release)
	require.NoError(t, <-ended)
	require.Equal(t, "slow answer", <-answer)
	require.Equal(t, "request done", <-comp.events)
	require.Equal(t, "component stopped", <-comp.events)
	_, err := http.Get("http://" + a.HTTP + "/-/healthy")
	require.Error(t, err, "the listener is closed")
}

func TestRun_ReturnsTheErrorOfTheComponent(t *testing.T) {
	defer goleak.VerifyNone(t)
	comp := newRecorder()
	comp.fail = errors.New("cannot open")
	_, stop, ended := start(t, comp)
	defer stop()
	require.ErrorContains(t, <-ended, "cannot open")
}

func TestGRPC_ReportsHealthAndSurvivesAPanic(t *testing.T) {
	defer goleak.VerifyNone(t)
	comp := newRecorder()
	close(comp.ready)
	a, stop, ended := start(t, comp)
	conn, err := grpc.NewClient(a.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err == nil && resp.Status == healthpb.HealthCheckResponse_SERVING
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, conn.Close())
	stop()
	require.NoError(t, <-ended)

	i := interceptors{metrics: newGRPCMetrics(prometheus.NewRegistry()), logger: slog.New(slog.DiscardHandler)}
	_, err = i.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/a/B"}, func(context.Context, any) (any, error) {
		panic("boom")
	})
	require.Equal(t, codes.Internal, status.Code(err))
}

func TestConfig_RefusesWrongFlags(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := testConfig()
		change(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
	f("--http-address", func(c *Config) { c.HTTPAddress = "" })
	f("given together", func(c *Config) { c.GRPCTLSCert = "cert.pem" })
	f("--http.config", func(c *Config) { c.HTTPConfigFile = "does-not-exist.yml" })
	require.NoError(t, func() error { c := testConfig(); return c.Validate() }())
}

// marker is a component that marks blocks.
type marker struct {
	*recorder
	marks atomic.Int32
}

func (c *marker) RegisterHTTP(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v1/blocks/mark", func(http.ResponseWriter, *http.Request) { c.marks.Add(1) })
}

func TestForeignOrigin_MarksNoBlock(t *testing.T) {
	comp := &marker{recorder: newRecorder()}
	close(comp.ready)
	a, stop, ended := start(t, comp)
	mark := func(header, value string) int {
		r, err := http.NewRequest(http.MethodPost, "http://"+a.HTTP+"/api/v1/blocks/mark", strings.NewReader("id=x&action=DELETION"))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(header, value)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	for header, value := range map[string]string{"Origin": "http://other.example", "Sec-Fetch-Site": "cross-site"} {
		require.Equal(t, http.StatusForbidden, mark(header, value), header)
	}
	require.Zero(t, comp.marks.Load())
	require.Equal(t, http.StatusOK, mark("Origin", "http://"+a.HTTP))
	require.EqualValues(t, 1, comp.marks.Load())
	http.DefaultClient.CloseIdleConnections()
	stop()
	require.NoError(t, <-ended)
}
