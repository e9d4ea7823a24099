package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// peakUnderAttack bounds the memory of an attacked querier with its default limits.
// GOMEMLIMIT is not set.
const peakUnderAttack = 1536 << 20

// attackedQuerier is a querier over a store that attacks it.
type attackedQuerier struct {
	t    *testing.T
	proc *harness.Process
	base string
}

func startAttacked(t *testing.T) *attackedQuerier {
	t.Helper()
	require.Empty(t, os.Getenv("GOMEMLIMIT"), "the bounds must hold without it")
	dir, host := t.TempDir(), harness.Host()
	addr, err := harness.Port(host)
	require.NoError(t, err)
	p, err := harness.StartEnv(dir, []string{"TMPDIR=" + dir}, "query", bin.Hindsight, "query",
		"--http-address="+addr, "--grpc-address="+host+":0", "--endpoint="+startHostileStore(t, host), "--query.timeout=15s")
	require.NoError(t, err)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Log(p.Tail(20))
		}
	})
	require.NoError(t, harness.WaitHTTP(p, "http://"+addr+"/-/ready", 30*time.Second))
	a := &attackedQuerier{t: t, proc: p, base: "http://" + addr}
	eventually(t, 30*time.Second, a.good)
	return a
}

// good checks that the querier still answers a harmless query.
func (a *attackedQuerier) good() error {
	status, body, err := a.get("/api/v1/query", url.Values{"query": {"count(good)"}, "time": {fmt.Sprint(hostileTime/1000 + 60)}})
	if err != nil || status != http.StatusOK || !strings.Contains(body, `"1"]`) {
		return fmt.Errorf("a harmless query gets %d %s %w", status, body, err)
	}
	return nil
}

func (a *attackedQuerier) get(path string, p url.Values) (status int, body string, err error) {
	return a.send(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(p.Encode()))
}

func (a *attackedQuerier) send(method, path, contentType string, body io.Reader) (int, string, error) {
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	client := http.Client{Timeout: 40 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}

// survived checks that the process runs and its memory stayed below the bound.
func (a *attackedQuerier) survived(name string) {
	a.t.Helper()
	require.True(a.t, a.proc.Running(), "%s ended the querier:\n%s", name, a.proc.Tail(20))
	peak, err := a.proc.Peak()
	require.NoError(a.t, err)
	a.t.Logf("after %s: peak %d MiB", name, peak>>20)
	require.Less(a.t, peak, int64(peakUnderAttack), "the peak after %s is %d MiB", name, peak>>20)
	require.NoError(a.t, a.good(), name)
}

// Messages of a hostile store neither end the querier nor exceed its limits of memory
// and time, and the answer names the store.
func TestQuerierSurvivesHostileStore(t *testing.T) {
	t.Parallel()
	a := startAttacked(t)
	for _, name := range []string{
		"histogram_bomb", "repeated", "many_labels", "large_warnings", "large_frames", "empty_frames", "endless",
	} {
		begin := time.Now()
		status, body, err := a.get("/api/v1/query_range", url.Values{
			"query": {name}, "start": {fmt.Sprint(hostileTime / 1000)}, "end": {fmt.Sprint(hostileTime/1000 + 1800)}, "step": {"15"},
		})
		require.NoError(t, err, name)
		require.Less(t, time.Since(begin), 30*time.Second, name)
		if name != "repeated" { // which is one good series
			require.True(t, status != http.StatusOK || strings.Contains(body, "warnings"), "%s is answered without a word: %.300s", name, body)
		}
		a.survived(name)
	}
}

// Requests of a hostile client neither end the querier nor exceed its limits of memory
// and disk.
func TestQuerierSurvivesHostileRequests(t *testing.T) {
	t.Parallel()
	a := startAttacked(t)
	for _, expr := range hostileExpressions() {
		for _, path := range []string{"/api/v1/query", "/api/v1/query_range", "/api/v1/format_query", "/api/v1/parse_query"} {
			_, body, err := a.get(path, url.Values{"query": {expr}, "start": {"0"}, "end": {"3600"}, "step": {"15"}})
			require.NoError(t, err, "%s %.60s: %s", path, expr, body)
		}
		a.survived(fmt.Sprintf("%.60s", expr))
	}
	for _, path := range []string{"/api/v1/query", "/api/v1/series", "/federate", "/debug/pprof/profile", "/debug/pprof/trace", "/-/reload"} {
		body, contentType := largeForm(t)
		status, _, err := a.send(http.MethodPost, path, contentType, body)
		// The server refuses it, or closes the connection before the end of the body.
		if err == nil {
			require.GreaterOrEqual(t, status, http.StatusBadRequest, path)
		} else {
			closed := errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
			require.True(t, closed, "%s: %v", path, err)
		}
		a.survived("a multipart body to " + path)
	}
	requireNoFilesLeft(t, a.proc)
}

// hostileExpressions are short, and expensive to evaluate, parse or print.
func hostileExpressions() []string {
	return []string{
		`max_over_time(vector(1)[100d:1ms])`,
		`max_over_time(max_over_time(vector(1)[1d:1s])[1d:1s])`,
		`sum_over_time(vector(1)[100000d:1m] @ 1e9 offset 1d)`,
		strings.Repeat("1+", 20_000) + "1",
		strings.Repeat("(", 20_000) + "1" + strings.Repeat(")", 20_000),
		strings.Repeat("-", 10<<20) + "1",
		`{x=~"` + strings.Repeat("(a|b)*", 1500) + `"}`,
		`{` + strings.Repeat(`x!="a",`, 100_000) + `x="b"}`,
		`label_replace(vector(1), "a", "` + strings.Repeat("$1", 100_000) + `", "b", "(.*)")`,
	}
}

// largeForm is a multipart body of 64 MiB, which a handler that parses it in the
// usual way writes to disk.
func largeForm(t *testing.T) (io.Reader, string) {
	t.Helper()
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	_, err := w.CreateFormFile("file", "large")
	require.NoError(t, err)
	filler := io.LimitReader(zeros{}, 64<<20)
	end := strings.NewReader("\r\n--" + w.Boundary() + "--\r\n")
	return io.MultiReader(&head, filler, end), w.FormDataContentType()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// requireNoFilesLeft checks that the process left no file in its directory for
// temporary files, which is the directory of its log.
func requireNoFilesLeft(t *testing.T, p *harness.Process) {
	t.Helper()
	entries, err := os.ReadDir(strings.TrimSuffix(p.Log, "/query.log"))
	require.NoError(t, err)
	for _, e := range entries {
		require.Equal(t, "query.log", e.Name())
	}
}
