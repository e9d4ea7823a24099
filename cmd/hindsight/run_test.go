package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRunUsage(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(t.Context(), args, streams{out: &out, err: &errs})
		require.Equal(t, exitUsage, code, errs.String())
		require.Contains(t, errs.String(), want)
		lines := 0
		for line := range strings.Lines(errs.String()) {
			if !strings.HasPrefix(line, "ts=") { // the log
				lines++
			}
		}
		require.Equal(t, 1, lines, "one line: %s", errs.String())
	}
	f("unknown long flag", "query", "--no-such-flag")
	f("see hindsight query --help", "query", "--no-such-flag")
	f("http-grace-period: ", "query", "--http-grace-period=2 minutes")
	f("expected command", "quary")
	f("--log.level", "query", "--log.level=loud")
	f("--objstore.config-file", "store", "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0")
	f("given together", "query", "--grpc-server-tls-cert=x.pem")
}

func TestRunHelpAndVersion(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"--help"}, streams{out: &out, err: &errs}))
	for _, cmd := range []string{"sidecar", "receive", "store", "query", "compact", "all"} {
		require.Contains(t, out.String(), cmd)
	}
	out.Reset()
	require.Equal(t, exitOK, run(t.Context(), []string{"--version"}, streams{out: &out, err: &errs}))
	require.Contains(t, out.String()+errs.String(), "hindsight, version")
}
