package httpclient_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
)

func TestNewRoundTripper_ReadsConfigurationFileAgain(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "client.yml")
	write := func(content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file+".new", []byte(content), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write("bearer_token: first")
	var log bytes.Buffer
	cfg, err := httpclient.Parse([]byte("bearer_token: first"))
	require.NoError(t, err)
	cfg.File, cfg.Logger = file, slog.New(slog.NewTextHandler(&log, nil))
	rt, err := httpclient.NewRoundTripper(cfg, "test")
	require.NoError(t, err)
	c := http.Client{Transport: rt}
	defer c.CloseIdleConnections()
	sent := func(want string) {
		t.Helper()
		resp, err := c.Get(srv.URL)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, string(b))
	}
	sent("Bearer first")
	write("bearer_token: second")
	sent("Bearer second")
	for _, broken := range []string{"bearer_token: [hunter2", "bearer_token: {hunter2: x}", "basic_auth: hunter2", "proxy_url: 'http://u:hunter2@%zz'"} {
		write(broken)
		sent("Bearer second")
	}
	require.NoError(t, os.Remove(file))
	sent("Bearer second")
	write("basic_auth: {username: u, password: p}")
	sent("Basic dTpw")
	for _, secret := range []string{"hunter2", "second"} {
		require.NotContains(t, log.String(), secret)
	}
	require.Contains(t, log.String(), "file reload failed")
}
