package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startAll runs hindsight all until the test ends, and returns its address.
func startAll(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := lis.Addr().String()
	require.NoError(t, lis.Close())
	// The directory is removed after the process has ended.
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		var errs bytes.Buffer
		code := run(ctx, []string{"all", "--data-dir=" + dir, "--http-address=" + addr, "--grpc-address=127.0.0.1:0", "--tsdb.max-exemplars=100000"},
			streams{out: io.Discard, err: &errs})
		if code != exitOK {
			t.Errorf("all ended with code %d: %s", code, errs.String())
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + addr + "/-/ready")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond)
	return addr
}

// proxy forwards to an address. answer may change the body of an answer, and swallow may
// take a request, which then counts as done.
type proxy struct {
	answer  func(r *http.Request, body []byte) []byte
	swallow func(r *http.Request) bool
}

func (p proxy) start(t *testing.T, addr string) string {
	t.Helper()
	rp := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	rp.ModifyResponse = func(resp *http.Response) error {
		if p.answer == nil {
			return nil
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		body = p.answer(resp.Request, body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		resp.ContentLength = int64(len(body))
		resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return nil
	}
	director := rp.Director               //nolint:staticcheck // Rewrite has other headers
	rp.Director = func(r *http.Request) { //nolint:staticcheck // Rewrite has other headers
		director(r)
		// The proxy has to read the answer, so it must not be compressed.
		r.Header.Set("Accept-Encoding", "identity")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.swallow != nil && p.swallow(r) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		rp.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// override returns arguments of which later ones replace earlier ones of the same flag.
func override(args []string, more ...string) []string {
	for _, m := range more {
		name, _, _ := strings.Cut(m, "=")
		args = slices.DeleteFunc(args, func(a string) bool { return strings.HasPrefix(a, name+"=") })
	}
	return append(args, more...)
}

// runProbe runs the probe for some steps and returns its result.
func runProbe(t *testing.T, write, query string, more ...string) (code int, s probeSummary, log string) {
	t.Helper()
	var out, errs bytes.Buffer
	args := []string{
		"tools", "probe", "--write.url=" + write + "/api/v1/receive", "--query.url=" + query, "--http-address=127.0.0.1:0",
		"--interval=100ms", "--duration=1500ms", "--visible-within=300ms", "--late=400ms", "--recent=3s", "--history=12s",
		"--series=2", "--exemplars", "--federate", "--output=json",
	}
	code = run(t.Context(), override(args, more...), streams{out: &out, err: &errs})
	if code != exitUsage {
		require.NoError(t, json.Unmarshal(out.Bytes(), &s), errs.String())
	}
	return code, s, errs.String()
}

// A URL may hold a password, which must not get into the log.
func TestProbe_LogsNoPassword(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	to := strings.Replace(srv.URL, "http://", "http://user:hidden@", 1)
	code, _, log := runProbe(t, to, to, "--duration=100ms")
	require.Equal(t, exitFailed, code)
	require.Contains(t, log, "write failed")
	require.Contains(t, log, "query failed")
	require.NotContains(t, log, "hidden")
}

// The probe finds nothing at a correct server, and names what a proxy loses, changes and
// duplicates.
func TestProbe(t *testing.T) {
	t.Parallel()
	addr := startAll(t)
	direct := "http://" + addr
	path := func(s probeSummary, path string, dedup bool) probeRow {
		for _, r := range s.Paths {
			if r.Path == path && r.Dedup == dedup && r.Age == ageRecent {
				return *r
			}
		}
		t.Fatalf("no path %s", path)
		return probeRow{}
	}
	t.Run("clean", func(t *testing.T) {
		t.Parallel()
		code, s, log := runProbe(t, direct, direct, "--name=clean")
		require.Equal(t, exitOK, code, log)
		require.Empty(t, s.Findings)
		require.Equal(t, s.Written, s.Acknowledged)
		require.Positive(t, s.MaxDelay)
		for _, r := range s.Paths {
			require.Zero(t, r.Failed, "%+v", r)
			require.True(t, r.Checked > 0 || r.Age == ageOlder, "%+v", r)
		}
		// A second probe of that name checks what the first one wrote.
		code, s, log = runProbe(t, direct, direct, "--name=clean", "--recent=2s", "--duration=3s")
		require.Equal(t, exitOK, code, log)
		older := 0
		for _, r := range s.Paths {
			if r.Age == ageOlder {
				older += r.Checked
			}
		}
		require.Positive(t, older)
	})
	t.Run("acknowledged write dropped", func(t *testing.T) {
		t.Parallel()
		var n atomic.Int64
		p := proxy{swallow: func(r *http.Request) bool {
			return r.Header.Get("X-Prometheus-Remote-Write-Version") == "0.1.0" && n.Add(1) == 4
		}}
		code, s, log := runProbe(t, p.start(t, addr), direct, "--name=dropped", "--duration=2s")
		require.Equal(t, exitFailed, code)
		require.Contains(t, log, "problem=lost")
		for _, f := range s.Findings {
			require.Equal(t, "lost", f.Problem, "%+v", f)
			require.Contains(t, f.Series, `protocol="1.0"`)
		}
		for _, dedup := range []bool{true, false} {
			// Two series of four kinds; a sample of the late kind may be due twice or never.
			lost := path(s, pathRaw, dedup).Lost
			require.True(t, lost >= 6 && lost <= 10, lost)
			require.NotZero(t, path(s, pathRange, dedup).Lost)
		}
		require.Equal(t, 2, path(s, pathExemplars, true).Lost)
	})
	t.Run("value changed", func(t *testing.T) {
		t.Parallel()
		count := regexp.MustCompile(`"count":"(\d+)"`)
		p := proxy{answer: func(r *http.Request, body []byte) []byte {
			if r.URL.Path != "/api/v1/query_range" {
				return body
			}
			done := false
			return count.ReplaceAllFunc(body, func(m []byte) []byte {
				if done {
					return m
				}
				done = true
				return []byte(`"count":"1"`)
			})
		}}
		code, s, _ := runProbe(t, direct, p.start(t, addr), "--name=changed")
		require.Equal(t, exitFailed, code)
		require.NotZero(t, path(s, pathRange, true).Wrong)
		require.NotZero(t, path(s, pathRange, false).Wrong)
		require.Zero(t, path(s, pathRaw, true).Wrong)
		for _, f := range s.Findings {
			require.Equal(t, "wrong", f.Problem)
			require.Contains(t, f.Details, "read {count:1 ")
			require.Contains(t, f.Series, "histogram")
		}
	})
	t.Run("series duplicated", func(t *testing.T) {
		t.Parallel()
		p := proxy{answer: func(r *http.Request, body []byte) []byte {
			var a map[string]json.RawMessage
			var data map[string]json.RawMessage
			var result []map[string]any
			if r.URL.Path != "/api/v1/query" || json.Unmarshal(body, &a) != nil || json.Unmarshal(a["data"], &data) != nil ||
				json.Unmarshal(data["result"], &result) != nil || len(result) == 0 {
				return body
			}
			one := map[string]any{}
			for k, v := range result[0] {
				one[k] = v
			}
			metric := map[string]any{"replica": "b"}
			for k, v := range one["metric"].(map[string]any) {
				metric[k] = v
			}
			one["metric"] = metric
			result = append(result, one)
			data["result"], _ = json.Marshal(result)
			a["data"], _ = json.Marshal(data)
			body, _ = json.Marshal(a)
			return body
		}}
		code, s, _ := runProbe(t, direct, p.start(t, addr), "--name=duplicated")
		require.Equal(t, exitFailed, code)
		require.NotZero(t, path(s, pathRaw, true).Duplicates)
		require.Zero(t, path(s, pathRaw, false).Duplicates, "without deduplication it is another replica")
		for _, f := range s.Findings {
			require.Equal(t, "duplicate", f.Problem)
			require.Contains(t, f.Details, `replica="b"`)
		}
	})
	t.Run("partly stored", func(t *testing.T) {
		t.Parallel()
		// The answer to remote write 2.0 states no numbers: a success that stored nothing.
		p := proxy{swallow: func(r *http.Request) bool { return r.Method == http.MethodPost }}
		code, s, log := runProbe(t, p.start(t, addr), direct, "--name=none", "--protocol=2.0", "--duration=300ms")
		require.Equal(t, exitFailed, code)
		require.Zero(t, s.Acknowledged)
		require.Contains(t, log, "no write was acknowledged")
	})
}

func TestProbe_RefusesFlagsThatContradict(t *testing.T) {
	for want, args := range map[string][]string{
		"--recent must be longer":    {"--recent=500ms"},
		"--history must be as long":  {"--history=1s"},
		"--interval must be a":       {"--interval=1ms"},
		"--series must be between":   {"--series=0"},
		"--name must not be empty":   {"--name="},
		"--timeout must be positive": {"--timeout=0s"},
	} {
		code, _, log := runProbe(t, "http://127.0.0.1:1", "http://127.0.0.1:1", args...)
		require.Equal(t, exitUsage, code, want)
		require.Contains(t, log, want)
	}
}

// The commands of the document work, with the addresses of a process.
func TestProbeDocument_CommandsWork(t *testing.T) {
	t.Parallel()
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	commands := docCommands(t, filepath.Join(docs, "probe.md"))
	require.NotEmpty(t, commands)
	addr := startAll(t)
	for _, line := range commands {
		line = strings.NewReplacer("127.0.0.1:10902", addr, "receive:19291", addr, "query:10902", addr).Replace(line)
		var out, errs bytes.Buffer
		args := override(words(line), "--duration=300ms", "--interval=50ms", "--visible-within=100ms", "--late=0s", "--recent=1s", "--http-address=127.0.0.1:0")
		code := run(t.Context(), args, streams{out: &out, err: &errs})
		require.Equal(t, exitOK, code, line+"\n"+out.String()+errs.String())
	}
}
