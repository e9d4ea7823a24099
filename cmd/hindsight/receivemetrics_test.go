package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/server"
)

// The listener of remote write is that of receive, and its requests count like those of
// the other one.
func TestReceive_CountsRequestsOfTheWritePort(t *testing.T) {
	cfg := receive.DefaultConfig()
	cfg.RemoteWriteAddress, cfg.CapnProtoAddress, cfg.TSDB.Path = "127.0.0.1:0", "", t.TempDir()
	require.NoError(t, cfg.Labels.Set(`replica="a"`))
	reg := prometheus.NewRegistry()
	r, err := receive.New(cfg, receive.Deps{Logger: slog.New(slog.DiscardHandler), Registerer: reg, GRPCAddress: "127.0.0.1:0"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started, ended := make(chan server.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, server.Config{HTTPAddress: "127.0.0.1:0"}, r, server.Deps{
			Logger: slog.New(slog.DiscardHandler), Registry: reg, Started: func(a server.Addresses) { started <- a },
		})
	}()
	a := <-started
	require.Eventually(t, func() bool { return r.Ready() == nil }, 20*time.Second, 5*time.Millisecond)
	resp, err := http.Post("http://"+r.RemoteWriteAddr().String()+"/api/v1/receive", "text/x-nothing", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnsupportedMediaType, resp.StatusCode)
	require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
	resp, err = http.Get("http://" + a.HTTP + "/metrics")
	require.NoError(t, err)
	page, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, string(page), `http_requests_total{code="415",handler="receive",method="post"} 1`)
	require.Contains(t, string(page), `http_request_duration_seconds_count{code="415",handler="receive",method="post"} 1`)
	cancel()
	require.NoError(t, <-ended)
}
