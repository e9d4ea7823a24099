package prom_test

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
)

func tlsServer(t *testing.T) (server *httptest.Server, ca []byte) {
	t.Helper()
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","data":{"version":"3.14.0"}}`)
	}))
	t.Cleanup(server.Close)
	return server, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	require.NoError(t, err)
	return u
}

func TestClient_UsesTLS(t *testing.T) {
	server, ca := tlsServer(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, ca, 0o600))
	u := parseURL(t, server.URL)

	_, err := newClient(t, u, "").Flags(t.Context())
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	for _, yaml := range []string{"tls_config: {insecure_skip_verify: true}", "tls_config: {ca_file: " + file + "}"} {
		got, err := newClient(t, u, yaml).Flags(t.Context())
		require.NoError(t, err, yaml)
		require.Equal(t, "3.14.0", got["version"])
	}
	_, err = newClient(t, u, "tls_config: {ca_file: "+file+", server_name: other.example}").Flags(t.Context())
	require.ErrorContains(t, err, "other.example")

	cfg, err := httpclient.Parse([]byte("tls_config: {ca_file: /does/not/exist}"))
	require.NoError(t, err)
	_, err = prom.New(u, cfg, "")
	require.ErrorContains(t, err, "load TLS files")
}

func TestClient_UsesProxy(t *testing.T) {
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		_, _ = io.WriteString(w, `{"status":"success","data":{"version":"1"}}`)
	}))
	defer proxy.Close()
	_, err := newClient(t, parseURL(t, "http://prometheus.example/x/"), "proxy_url: "+proxy.URL).Flags(t.Context())
	require.NoError(t, err)
	require.Equal(t, "http://prometheus.example/x/api/v1/status/flags", asked)
}
