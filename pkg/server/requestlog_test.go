package server

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// lockedBuffer may be written concurrently.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns the lines that contain all of the words.
func (l *lockedBuffer) lines(words ...string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for line := range strings.SplitSeq(l.b.String(), "\n") {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		out = append(out, line)
	}
	return out
}

func TestRequestLogging_OfBothServers(t *testing.T) {
	cfg := testConfig()
	cfg.RequestLogging = flags.Inline("request.logging-config", "options: {level: INFO, decision: {log_end: true}}")
	out := &lockedBuffer{}
	comp := newRecorder()
	close(comp.ready)
	started, ended := make(chan Addresses, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- Run(ctx, cfg, comp, Deps{
			Logger: slog.New(slog.NewTextHandler(out, nil)), Registry: prometheus.NewRegistry(),
			Started: func(a Addresses) { started <- a },
		})
	}()
	a := <-started
	r, err := http.NewRequest(http.MethodGet, "http://"+a.HTTP+"/nothing?token=hidden", nil)
	require.NoError(t, err)
	r.Header.Set("X-Request-Id", "mine")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "mine", resp.Header.Get("X-Request-Id"))
	get(t, "http://"+a.HTTP+"/-/healthy")
	resp, err = http.PostForm("http://"+a.HTTP+"/api/v1/blocks/mark", url.Values{"id": {"01X"}, "action": {"DELETION"}})
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())

	conn, err := grpc.NewClient(a.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	call := metadata.AppendToOutgoingContext(ctx, "request-id", "called")
	_, err = healthpb.NewHealthClient(conn).Check(call, &healthpb.HealthCheckRequest{Service: "unknown"})
	require.Error(t, err)
	_, err = healthpb.NewHealthClient(conn).Check(call, &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.NoError(t, conn.Invoke(call, "/grpc.health.v1.Health/List", &healthpb.HealthListRequest{}, &healthpb.HealthListResponse{}))
	cancel()
	require.NoError(t, <-ended)

	require.Len(t, out.lines("request finished", "path=/nothing ", "status=404", "request_id=mine", "level=WARN"), 1)
	require.Len(t, out.lines("request finished", "protocol=grpc", "method=/grpc.health.v1.Health/Check", "status=NotFound", "request_id=called"), 1)
	require.Len(t, out.lines("request finished", "method=/grpc.health.v1.Health/List", "status=OK", "level=INFO", "messages=1", "remote=127.0.0.1:", "err="), 0)
	require.Len(t, out.lines("request finished", "method=/grpc.health.v1.Health/List", "status=OK", "level=INFO", "messages=1", "remote=127.0.0.1:"), 1)
	require.Len(t, out.lines("request finished"), 4, "successful probes are not logged")
	require.Empty(t, out.lines("hidden"))
	require.Len(t, out.lines("msg=audit", "action=mark_block", `params="id=01X action=DELETION"`, "status=404", "result=failed"), 1)
}

func TestRequestLogging_InvalidConfigurationIsTheUsersMistake(t *testing.T) {
	cfg := testConfig()
	cfg.RequestLogging = flags.Inline("request.logging-config", "options: {level: LOUD}")
	err := cfg.Validate()
	require.True(t, flags.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "--request.logging-config: options.level")
}
