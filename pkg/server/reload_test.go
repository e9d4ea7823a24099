package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// reloadable is a component whose configuration can be read again.
type reloadable struct {
	*recorder
	outcome chan error
	called  chan struct{}
}

func (c *reloadable) Reload(context.Context) error {
	c.called <- struct{}{}
	return <-c.outcome
}

func TestReload_BySignalAndRequest(t *testing.T) {
	comp := &reloadable{recorder: newRecorder(), outcome: make(chan error, 1), called: make(chan struct{}, 1)}
	web := filepath.Join(t.TempDir(), "web.yml")
	require.NoError(t, os.WriteFile(web, []byte("http_server_config: {headers: {X-Frame-Options: deny}}"), 0o600))
	cfg := testConfig()
	cfg.HTTPConfigFile = web
	signals, started, ended := make(chan struct{}), make(chan Addresses, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- Run(ctx, cfg, comp, Deps{
			Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Reload: signals,
			Started: func(a Addresses) { started <- a },
		})
	}()
	base := "http://" + (<-started).HTTP
	reload := func() int {
		resp, err := http.Post(base+"/-/reload", "", nil)
		require.NoError(t, err)
		require.Equal(t, "deny", resp.Header.Get("X-Frame-Options"), "the last good web configuration stays")
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	code, _ := get(t, base+"/-/reload")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	require.Empty(t, comp.called, "GET changes nothing")

	comp.outcome <- nil
	signals <- struct{}{}
	<-comp.called
	comp.outcome <- nil
	require.Equal(t, http.StatusOK, reload())
	<-comp.called
	comp.outcome <- errors.New("line 3 is wrong")
	require.Equal(t, http.StatusInternalServerError, reload())
	<-comp.called
	_, metrics := get(t, base+"/metrics")
	require.Contains(t, metrics, "hindsight_config_last_reload_successful 0")
	require.Contains(t, metrics, `hindsight_config_reloads_total{result="error"} 1`)
	require.Contains(t, metrics, `hindsight_config_reloads_total{result="success"} 2`)

	require.NoError(t, os.WriteFile(web, []byte("nonsense: 1"), 0o600))
	comp.outcome <- nil
	require.Equal(t, http.StatusInternalServerError, reload())
	<-comp.called
	require.NoError(t, os.WriteFile(web, []byte("http_server_config: {headers: {X-Frame-Options: deny}}\n"), 0o600))
	comp.outcome <- nil
	require.Equal(t, http.StatusOK, reload())
	<-comp.called
	_, metrics = get(t, base+"/metrics")
	require.Contains(t, metrics, "hindsight_config_last_reload_successful 1")
	cancel()
	require.NoError(t, <-ended)
}

func TestRun_AddressInUseIsTheUsersMistake(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer lis.Close()
	for _, change := range []func(*Config){
		func(c *Config) { c.HTTPAddress = lis.Addr().String() },
		func(c *Config) { c.GRPCAddress = lis.Addr().String() },
		func(c *Config) { c.HTTPAddress = "127.0.0.1:99999" },
	} {
		cfg := testConfig()
		change(&cfg)
		err := Run(t.Context(), cfg, newRecorder(), Deps{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
		require.True(t, flags.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "-address 127.0.0.1:")
	}
}

// Without profiling, no page below /debug/pprof is served, the component's fallback
// neither.
func TestProfiling_CanBeDisabled(t *testing.T) {
	cfg := testConfig()
	cfg.HTTPDisableProfiling = true
	comp := newRecorder()
	close(comp.ready)
	a, stop, ended := startWith(t, cfg, comp)
	for _, path := range []string{"", "heap", "profile?seconds=1", "trace", "cmdline", "symbol", "goroutine?debug=2"} {
		code, _ := get(t, "http://"+a.HTTP+"/debug/pprof/"+path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
	code, _ := get(t, "http://"+a.HTTP+"/metrics")
	require.Equal(t, http.StatusOK, code)
	stop()
	require.NoError(t, <-ended)
}

func TestPages_ProbesAndMethodsAndProfiles(t *testing.T) {
	comp := newRecorder()
	close(comp.ready)
	a, stop, ended := start(t, comp)
	base := "http://" + a.HTTP
	for _, path := range []string{"/-/ready", "/ready", "/-/healthy", "/healthy", "/metrics"} {
		code, _ := get(t, base+path)
		require.Equal(t, http.StatusOK, code, path)
	}
	for _, path := range []string{"/debug/pprof/profile?seconds=100000", "/debug/pprof/trace?seconds=1e9", "/debug/pprof/heap?seconds=x"} {
		code, _ := get(t, base+path)
		require.Equal(t, http.StatusBadRequest, code, path)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/profile", "/debug/pprof/cmdline", "/-/ready"} {
		resp, err := http.Post(base+path, "", nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, path)
	}
	_, metrics := get(t, base+"/metrics")
	require.Contains(t, metrics, `http_requests_total{code="200",handler="probe",method="get"} 4`)
	require.Contains(t, metrics, `http_requests_total{code="400",handler="pprof",method="get"} 3`)
	require.Contains(t, metrics, `http_requests_total{code="200",handler="reload",method="get"} 0`, "present from the start")
	stop()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("does not stop")
	}
}

func TestHandlerName(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/query": "query", "/thanos/api/v1/query_range": "query_range", "/prometheus/api/v1/label/job/values": "label_values",
		"/api/v1/receive": "receive", "/": otherHandler, "/api/v1/nothing": otherHandler, "/debug/pprof/heap": "pprof",
		"/api/v1/blocks/mark": "blocks_mark", "/ready": "probe", "/-/ready": "probe",
	} {
		require.Equal(t, want, handlerName(path), path)
	}
}
