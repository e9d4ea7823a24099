package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each mistake of the user gives one line that names it, without types of the
// program and without secrets, and exit code 2.
func TestRun_MistakesAreOneClearLine(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	dir := t.TempDir()
	file := func(content string) string {
		f, err := os.CreateTemp(dir, "*.yml")
		require.NoError(t, err)
		_, err = f.WriteString(content)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		return f.Name()
	}
	bucket := "--objstore.config=type: FILESYSTEM\nconfig: {directory: " + filepath.Join(dir, "bucket") + "}"
	s3 := func(name string) string {
		return "--objstore.config=type: S3\nconfig: {bucket: " + name + ", endpoint: 'localhost:1', insecure: true, access_key: a, secret_key: s3cret}"
	}
	absent := filepath.Join(dir, "absent.yml")
	names := []string{"sidecar", "receive", "store", "query", "compact", "all"}
	// A new directory for each start: a lock would hide the mistake.
	needs := func(role string) []string {
		dir := t.TempDir()
		switch role {
		case "sidecar":
			return []string{"--tsdb.path=" + dir, "--prometheus.url=http://127.0.0.1:1"}
		case "receive":
			return []string{"--tsdb.path=" + dir, `--label=a="b"`, "--remote-write.address=127.0.0.1:0", "--receive.capnproto-address=127.0.0.1:0"}
		case "store", "compact":
			return []string{"--data-dir=" + dir}
		case "all":
			return []string{"--data-dir=" + dir, "--no-self-scrape"}
		}
		return nil
	}
	withBucket := map[string]bool{"store": true, "compact": true}
	f := func(role, want string, args ...string) {
		t.Helper()
		full := append([]string{role, "--http-address=127.0.0.1:0", "--log.level=error"}, needs(role)...)
		if role != "compact" {
			full = append(full, "--grpc-address=127.0.0.1:0")
		}
		given := strings.Join(args, " ")
		if withBucket[role] && !strings.Contains(given, "--objstore") {
			full = append(full, bucket)
		}
		full = append(full, args...)
		// A repeated address is an error: remove the first one.
		for _, name := range []string{"--http-address", "--grpc-address", "--remote-write.address"} {
			if strings.Contains(given, name+"=") {
				for i, a := range full {
					if strings.HasPrefix(a, name+"=127.0.0.1:0") {
						full = append(full[:i:i], full[i+1:]...)
						break
					}
				}
			}
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), full, streams{out: &out, err: &errs})
		var lines []string
		for line := range strings.Lines(errs.String()) {
			if !strings.HasPrefix(line, "ts=") {
				lines = append(lines, line)
			}
		}
		assert.Equal(t, exitUsage, code, "%s %s: %s", role, given, errs.String())
		if !assert.Len(t, lines, 1, "%s %s: %s", role, given, errs.String()) {
			return
		}
		assert.Contains(t, lines[0], want, "%s %s", role, given)
		for _, bad := range []string{"in type ", "into ", "s3cret", "*errors", "struct {"} {
			assert.NotContains(t, lines[0], bad, "%s %s", role, given)
		}
	}
	for _, role := range names {
		f(role, "--http-address "+busy.Addr().String(), "--http-address="+busy.Addr().String())
		f(role, `unknown key "tls_confg"`, "--http.config="+file("tls_confg: {}"))
		f(role, absent, "--http.config="+absent)
		f(role, `unknown key "client_typ"`, "--tracing.config=type: OTLP\nconfig: {client_typ: grpc, headers: {a: s3cret}}")
		f(role, absent, "--tracing.config-file="+absent)
		f(role, "--http-grace-period", "--http-grace-period=-1s")
		f(role, "--http.max-connections", "--http.max-connections=-1")
		if role != "compact" {
			f(role, "--grpc-address "+busy.Addr().String(), "--grpc-address="+busy.Addr().String())
			f(role, absent, "--grpc-server-tls-cert="+absent, "--grpc-server-tls-key="+absent)
			f(role, "--grpc-server-max-message-size", "--grpc-server-max-message-size=0")
		}
		if role != "query" {
			f(role, `unknown key "direktory"`, "--objstore.config=type: FILESYSTEM\nconfig: {direktory: x}")
			f(role, "unknown key", "--objstore.config=type: FILESYSTEM\nconfg: {directory: x}")
			f(role, absent, "--objstore.config-file="+absent)
			f(role, "NAME_THAT_IS_NOT_SET", "--objstore.config=type: $(NAME_THAT_IS_NOT_SET)")
		}
	}
	for _, role := range []string{"receive", "store", "compact", "sidecar", "all"} {
		f(role, "ucket", s3("a..b"))
		f(role, "ucket", s3("x"))
	}
	f("receive", "--remote-write.address "+busy.Addr().String(), "--remote-write.address="+busy.Addr().String())
	for _, role := range []string{"receive", "all"} {
		f(role, `unknown key "head_series_limt"`, "--receive.limits-config=write: {default: {head_series_limt: 1}}")
		f(role, "number", "--receive.limits-config=write: {default: {head_series_limit: s3cret}}")
		f(role, absent, "--receive.limits-config-file="+absent)
	}
	f("receive", `unknown key "endpionts"`, `--receive.hashrings=[{"endpionts": ["a:1"]}]`)
	f("receive", absent, "--receive.hashrings-file="+absent, "--receive.local-endpoint=a:1")
	f("receive", `unknown key "target_lable"`, "--receive.relabel-config=- {target_lable: x}")
	for _, role := range []string{"store", "compact", "query"} {
		f(role, `unknown key "source_lables"`, "--selector.relabel-config=- {source_lables: [a], action: keep}")
	}
	f("store", `unknown key "max_sise"`, "--index-cache.config=type: IN-MEMORY\nconfig: {max_sise: 1MB}")
	f("query", `unknown key "adress"`, "--endpoint.sd-config=endpoints: [{adress: 'a:1'}]")
	f("query", absent, "--endpoint.sd-config-file="+absent)
	f("sidecar", `unknown key "basic"`, "--prometheus.http-client=basic: {password: s3cret}")
	f("sidecar", "--prometheus.http-client", "--prometheus.http-client=basic_auth: s3cret")
}
