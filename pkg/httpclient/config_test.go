package httpclient_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
)

func TestParse(t *testing.T) {
	good := func(yaml string) httpclient.Config {
		t.Helper()
		cfg, err := httpclient.Parse([]byte(yaml))
		require.NoError(t, err)
		return cfg
	}
	bad := func(yaml, want string) {
		t.Helper()
		_, err := httpclient.Parse([]byte(yaml))
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, httpclient.Default(), good(""))
	cfg := good("transport_config: {idle_conn_timeout: 5000000000, dialer_timeout: 7s, max_idle_conns: 3}")
	require.EqualValues(t, 5e9, cfg.Transport.IdleConnTimeout)
	require.EqualValues(t, 7e9, cfg.Transport.DialerTimeout)
	require.Equal(t, 3, cfg.Transport.MaxIdleConns)
	require.Equal(t, 2, cfg.Transport.MaxIdleConnsPerHost)

	bad("basic_auth: {user: x}", "unknown key \"user\"")
	bad("\nbearer: x", "line 2: unknown key \"bearer\"")
	bad("bearer_token: x\nbearer_token_file: y", "exclude each other")
	bad("bearer_token: x\nbasic_auth: {username: y}", "exclude each other")
	bad("tls_config: {cert_file: x}", "needs both")
	bad("transport_config: {idle_conn_timeout: long}", "is neither a number of nanoseconds")
}
