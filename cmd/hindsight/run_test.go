package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
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
	f("unknown long flag '--no-such-flag' (see: hindsight query --help, hindsight tools explain-error hs-flag-invalid)", "query", "--no-such-flag")
	f("'--endpoints' (did you mean --endpoint?) (see", "query", "--endpoints=x")
	f("'--lgo.level' (did you mean --log.level?) (see", "store", "--lgo.level=info")
	f("'--outputs' (did you mean --output?) (see", "tools", "bucket", "ls", "--outputs=json")
	f("\"quary\" (did you mean query?) (see", "quary")
	f("\"inspct\" (did you mean inspect?) (see", "tools", "bucket", "inspct")
	f("http-grace-period: ", "query", "--http-grace-period=2 minutes")
	f("expected command", "quary")
	f("--log.level", "query", "--log.level=loud")
	f("--objstore.config-file", "store", "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0")
	f("given together", "query", "--grpc-server-tls-cert=x.pem")
}

// A script must not take a tool that was interrupted for one that has done its task.
func TestRun_InterruptedToolFails(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("a 1 1\n", 5000)+"# EOF\n"), 0o600))
	for command, want := range map[string]int{
		"tools bucket verify --objstore.config=" + s.yml:                   exitUsage,
		"tools bucket cost --objstore.config=" + s.yml:                     exitFailed,
		"tools bucket delete-series --match=up --objstore.config=" + s.yml: exitFailed,
		"tools bucket cleanup --yes --objstore.config=" + s.yml:            exitFailed,
		"tools tsdb import " + file + " --path=" + t.TempDir():             exitFailed,
		"query --http-address=127.0.0.1:0 --grpc-address=127.0.0.1:0":      exitOK,
	} {
		var out, errs bytes.Buffer
		args := strings.Fields(command)
		if before, yml, ok := strings.Cut(command, "--objstore.config="); ok {
			args = append(strings.Fields(before), "--objstore.config="+yml)
		}
		require.Equal(t, want, run(ctx, args, streams{out: &out, err: &errs}), "%s\n%s", command, errs.String())
		if want != exitOK {
			require.Regexp(t, "^hindsight tools .*: error: interrupted [(]see: hindsight tools explain-error hs-interrupted[)]\n$", errs.String())
		}
	}
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
