package requestlog

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// logged serves requests with the configuration and returns the lines that it writes.
func logged(t *testing.T, config string, requests ...*http.Request) string {
	t.Helper()
	c, err := Parse([]byte(config))
	require.NoError(t, err)
	var out bytes.Buffer
	l := New(c, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	h := requestid.Handler(l.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant.NewContext(r.Context(), "team-a")
		_, _ = io.Copy(io.Discard, r.Body)
		code := 200
		_, _ = fmt.Sscanf(r.Header.Get("Code"), "%d", &code)
		if code == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "answer")
	})))
	for _, r := range requests {
		func() {
			defer func() { _ = recover() }()
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
	}
	return out.String()
}

func request(method, target string, code int, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Code", fmt.Sprint(code))
	r.Header.Set(requestid.Header, "id-1")
	return r
}

const allRequests = "options: {level: DEBUG, decision: {log_start: true, log_end: true}}"

func TestHTTP_LogsARequestWithoutItsSecrets(t *testing.T) {
	r := request("POST", "http://x:9/api/v1/query?token=hidden", 200, "query=hidden+")
	r.SetBasicAuth("alice", "hidden")
	r.Header.Set("Cookie", "hidden")
	lines := strings.Split(strings.TrimSpace(logged(t, allRequests, r)), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], "request started")
	for _, want := range []string{
		"level=INFO", `msg="request finished"`, "protocol=http", "method=POST", "path=/api/v1/query ", "remote=192.0.2.1:1234", "request_id=id-1",
		"user=alice", "tenant=team-a", "status=200", "duration=", "request_bytes=13", "response_bytes=6",
	} {
		require.Contains(t, lines[1], want)
	}
	require.NotContains(t, strings.Join(lines, ""), "hidden")
}

func TestHTTP_BoundsWhatClientsSend(t *testing.T) {
	r := request("GET", "http://x/"+strings.Repeat("a", 100_000), 200, "")
	r.SetBasicAuth(strings.Repeat("b", 100_000)+"\nlevel=x", "")
	r.URL.Path += "\n"
	out := logged(t, allRequests, r)
	require.Less(t, len(out), 4<<10)
	require.Equal(t, 2, strings.Count(out, "\n"))
}

func TestHTTP_LevelChoosesLines(t *testing.T) {
	requests := func() []*http.Request {
		return []*http.Request{
			request("GET", "http://x/-/ready", 200, ""), request("GET", "http://x/a", 204, ""),
			request("GET", "http://x/a", 404, ""), request("GET", "http://x/a", 503, ""), request("GET", "http://x/a", 0, ""),
		}
	}
	for level, want := range map[string]int{"DEBUG": 5, "INFO": 4, "WARNING": 3, "ERROR": 2} {
		out := logged(t, "options: {level: "+level+", decision: {log_end: true}}", requests()...)
		require.Equal(t, want, strings.Count(out, "request finished"), level)
		require.Equal(t, 2, strings.Count(out, "level=ERROR"), level)
		require.Equal(t, 1, strings.Count(out, "aborted=true"), level)
	}
	require.Empty(t, logged(t, "options: {level: DEBUG}", requests()...))
}

func TestHTTP_FiltersByPathAndPort(t *testing.T) {
	const config = "options: {level: DEBUG, decision: {log_end: true}}\nhttp: {config: [{path: /a, port: 9}, {path: '/b?x=1'}]}"
	for target, want := range map[string]int{
		"http://x:9/a": 1, "http://x:9/a?q=1": 1, "http://x:8/a": 0, "http://x/a": 0, "http://x:9/a/": 0,
		"http://x:1/b?x=1": 1, "http://x:1/b": 0,
	} {
		require.Equal(t, want, strings.Count(logged(t, config, request("GET", target, 200, "")), "request finished"), target)
	}
}
