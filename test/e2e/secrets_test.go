package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// secret returns a value that no output may have.
func secret(place string) string { return "hush" + place + "hush" }

// leaks returns the secrets in a text, plain or as basic auth encodes them.
func leaks(text string) []string {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`hush\w*|\$2[aby]\$\w+`).FindAllString(text, -1) {
		found[m] = true
	}
	for _, m := range regexp.MustCompile(`[A-Za-z0-9+/]{12,}=*`).FindAllString(text, -1) {
		plain, err := base64.StdEncoding.DecodeString(m)
		if err == nil && strings.Contains(string(plain), "hush") {
			found[m] = true
		}
	}
	if strings.Contains(text, harness.S3SecretKey) {
		found[harness.S3SecretKey] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// servedPaths returns every path that a literal of the program names: those of all
// pages and APIs are among them.
func servedPaths(t *testing.T) []string {
	t.Helper()
	literal := regexp.MustCompile(`"(?:GET |POST |PUT |DELETE )?(/[A-Za-z0-9_/.{}*-]*)"`)
	paths := map[string]bool{}
	for _, dir := range []string{"pkg", "cmd"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root(t), dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			for _, m := range literal.FindAllStringSubmatch(string(content), -1) {
				paths[regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(m[1], "x")] = true
			}
			return err
		}))
	}
	// They take time and show no text.
	delete(paths, "/debug/pprof/profile")
	delete(paths, "/debug/pprof/trace")
	for _, p := range []string{"/api/v1/status/flags", "/metrics", "/debug/pprof/cmdline", "/tenants", "/ring", "/config"} {
		require.True(t, paths[p] || p == "/config", "%s is not found among %d paths", p, len(paths))
	}
	for _, p := range []string{"/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/api/v1/query?query=1", "/api/v1/targets?state=any"} {
		paths[p] = true
	}
	return slices.Sorted(maps.Keys(paths))
}

// secretFlags returns flags of a role that have a secret in every place that can have one.
func secretFlags(s *harness.Site, role, dead string) []string {
	objects := "--objstore.config=type: S3\nconfig: {bucket: hindsight, endpoint: " + s.Addr("s3") +
		", region: us-east-1, access_key: $(S3_ACCESS_KEY), secret_key: $(S3_SECRET_KEY), insecure: true}"
	out := []string{
		role, "--log.level=debug", "--http.config=" + s.Path("web.yml"),
		"--tracing.config=type: OTLP\nconfig: {client_type: http, insecure: true, endpoint: '" + dead + "', headers: {authorization: Bearer " + secret("tracing") + "}}",
		"--request.logging-config=options: {level: DEBUG, decision: {log_start: true, log_end: true}}",
	}
	switch role {
	case "sidecar":
		return append(out, objects, "--tsdb.path="+s.Path("prometheus"), "--prometheus.url=http://reader:"+secret("url")+"@"+dead+"/prom?token="+secret("param"),
			"--prometheus.http-client=basic_auth: {username: reader, password: "+secret("client")+"}", "--prometheus.get_config_interval=1s")
	case "receive":
		return append(out, objects, "--tsdb.path="+s.Path("receive"), "--receive.limits-config-reload-timer=1s",
			"--receive.hashrings=[{\"endpoints\": [\""+dead+"\"]}]", "--receive.local-endpoint="+dead,
			"--receive.limits-config=write:\n  global:\n    meta_monitoring_url: http://meta:"+secret("meta")+"@"+dead+
				"/?token="+secret("metaparam")+"\n    meta_monitoring_limit_query: sum(x) by (tenant)\n"+
				"    meta_monitoring_http_client: {bearer_token: "+secret("metatoken")+"}\n  default: {head_series_limit: 5}\n")
	case "query":
		return append(out, "--endpoint="+dead, "--endpoint.sd-config=endpoints: [{address: '"+dead+"'}]",
			"--query.telemetry.request-duration-seconds-quantiles=1", "--web.external-prefix=/", "--store.response-timeout=1s")
	}
	return append(out, objects, "--data-dir="+s.Path(role))
}

// No role prints, logs or serves a secret of its flags, files, environment or requests.
func TestSecrets_AppearNowhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, s.Start("s3"))
	hash, err := bcrypt.GenerateFromPassword([]byte(secret("login")), bcrypt.MinCost)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.Path("web.yml"), fmt.Appendf(nil, "basic_auth_users: {alice: %q}\n", hash), 0o600))
	require.NoError(t, os.MkdirAll(s.Path("prometheus"), 0o755))
	dead, err := harness.Port(harness.Host())
	require.NoError(t, err)
	paths := servedPaths(t)
	env := []string{"S3_ACCESS_KEY=" + harness.S3AccessKey, "S3_SECRET_KEY=" + harness.S3SecretKey}
	for _, role := range []string{"sidecar", "receive", "store", "query", "compact", "all"} {
		t.Run(role, func(t *testing.T) {
			addr, err := harness.Ports(harness.Host(), 3)
			require.NoError(t, err)
			args := append(secretFlags(s, role, dead), "--http-address="+addr[0])
			switch role {
			case "compact":
				args = append(args, "--wait")
			case "receive":
				args = append(args, "--grpc-address="+addr[1], "--remote-write.address="+addr[2], "--receive.capnproto-address=", "--remote-write.http-config="+s.Path("web.yml"))
			default:
				args = append(args, "--grpc-address="+addr[1])
			}
			proc, err := harness.StartEnv(s.Dir, env, "secret-"+role, bin.Hindsight, args...)
			require.NoError(t, err)
			t.Cleanup(proc.Kill)
			eventually(t, time.Minute, func() error {
				open, err := listening(proc.Pid())
				if err == nil && (!slices.Contains(open, addr[0]) || role == "receive" && !slices.Contains(open, addr[2])) {
					err = fmt.Errorf("listening on %v; the log:\n%s", open, proc.Tail(5))
				}
				return err
			})
			answers := crawl(t, "http://"+addr[0], paths)
			require.Greater(t, answers, int64(10), "the crawl sees hardly any page")
			if role == "receive" {
				crawl(t, "http://"+addr[2], paths)
			}
			require.NoError(t, proc.Stop(30*time.Second))
			require.Contains(t, proc.Output(), "request finished")
			require.Empty(t, leaks(proc.Output()), proc.Output())
		})
	}
}

// crawl reads each path, with and without secrets of a client, and returns how many
// answered with 200.
func crawl(t *testing.T, base string, paths []string) int64 {
	t.Helper()
	var found atomic.Int64
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for _, path := range paths {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r, err := http.NewRequest(method, base+path+separator+"token="+secret("sent"), strings.NewReader("password="+secret("body")))
			require.NoError(t, err)
			if method == http.MethodPost && strings.HasPrefix(path, "/-/quit") {
				continue
			}
			r.SetBasicAuth("alice", secret("login"))
			r.Header.Set("X-Api-Key", secret("header"))
			r.Header.Set("Cookie", "session="+secret("cookie"))
			resp, err := client.Do(r)
			require.NoError(t, err, path)
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			require.NoError(t, err, path)
			if resp.StatusCode == http.StatusOK {
				found.Add(1)
			}
			require.Empty(t, leaks(string(text)), "%s %s: %s", method, path, text)
			require.Empty(t, leaks(fmt.Sprint(resp.Header)), "%s %s", method, path)
		}
	}
	return found.Load()
}

// A role that refuses its flags does not show the secrets in them.
func TestSecrets_AreNotInErrorsOfTheStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dead, err := harness.Port(harness.Host())
	require.NoError(t, err)
	for _, args := range [][]string{
		{"store", "--objstore.config=type: S3\nconfig: {bucket: b, secret_key: [" + secret("list") + "]}"},
		{"store", "--objstore.config=type: S3\nconfig: {bucket: b, secret_kee: " + secret("typo") + "}"},
		{"store", "--objstore.config=type: S3\nconfig: {bucket: b, secret_key: '" + secret("open")},
		{"store", "--objstore.config=" + secret("scalar")},
		{"compact", "--objstore.config=type: S3\nconfig: {bucket: b, endpoint: '" + dead + "', insecure: true, access_key: a, secret_key: " + secret("unreachable") + "}"},
		{"compact", "--objstore.config=type: S3\nconfig: {bucket: b, endpoint: 'http://a:" + secret("endpoint") + "@" + dead + "', access_key: a, secret_key: s}"},
		{"store", "--objstore.config=type: AZURE\nconfig: {container: c, storage_account: a, storage_account_key: " + secret("azure") + "}"},
		{"store", "--objstore.config=type: GCS\nconfig: {bucket: b, service_account: '{\"type\": \"service_account\", \"private_key\": \"" + secret("gcs") + "\"}'}"},
		{"query", "--tracing.config=type: OTLP\nconfig: {client_type: grpc, headers: [" + secret("headers") + "]}"},
		{"query", "--tracing.config=" + secret("tracing")},
		{"query", "--endpoint.sd-config=endpoints: [{password: " + secret("sd") + "}]"},
		{"query", "--no-such-flag=" + secret("flag")},
		{"query", "--endpoint=http://a:" + secret("endpoint") + "@" + dead, "--query.max-concurrent=x"},
		{"sidecar", "--prometheus.url=http://reader:" + secret("url") + "@%zz"},
		{"sidecar", "--prometheus.url=reader:" + secret("scheme") + "@" + dead},
		{"sidecar", "--prometheus.url=ftp://reader:" + secret("ftp") + "@" + dead},
		{"sidecar", "--prometheus.http-client=basic_auth: {passwort: " + secret("typo") + "}"},
		{"sidecar", "--prometheus.http-client=bearer_token: [" + secret("list") + "]"},
		{"receive", "--receive.limits-config=write: {global: {meta_monitoring_url: 'http://a:" + secret("meta") + "@%zz'}}"},
		{"receive", "--receive.limits-config=write: {global: {meta_monitoring_http_client: {bearer: " + secret("typo") + "}}}"},
	} {
		p, err := harness.Start(s.Dir, "refused", bin.Hindsight, append(args, "--http-address=127.0.0.1:0")...)
		require.NoError(t, err)
		t.Cleanup(p.Kill)
		eventually(t, time.Minute, func() error {
			if p.Running() && p.Output() == "" {
				return fmt.Errorf("%q has printed nothing", args)
			}
			return nil
		})
		// A start that waits for an unreachable server is long enough to be logged.
		if _, err := p.Wait(3 * time.Second); err != nil {
			p.Kill()
		}
		require.Empty(t, leaks(p.Output()), "%q prints: %s", args, p.Output())
		require.NotEmpty(t, p.Output(), "%q", args)
		require.NoError(t, os.Remove(p.Log))
	}
}
