package requestlog

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/requestid"
)

func TestAudit_LogsDestructiveCallsOnly(t *testing.T) {
	var out bytes.Buffer
	l := New(Config{}, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	code := 200
	h := requestid.Handler(l.Audit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code != http.StatusUnauthorized {
			_ = r.ParseForm()
		}
		w.WriteHeader(code)
	})))
	call := func(method, target, body string) string {
		out.Reset()
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(requestid.Header, "id-1")
		r.SetBasicAuth("alice", "hidden")
		h.ServeHTTP(httptest.NewRecorder(), r)
		return out.String()
	}
	for target, want := range map[string]string{
		"POST /p/api/v1/blocks/mark":                   "mark_block",
		"PUT /api/v1/admin/tsdb/delete_series":         "delete_series",
		"POST /api/v1/admin/tsdb/deletions/01X/cancel": "cancel_deletion",
		"POST /-/flush":                                "flush",
		"POST /-/prepare-downscale":                    "prepare_downscale",
		"DELETE /-/prepare-downscale":                  "cancel_downscale",
		"DELETE /api/v1/queries/01Y":                   "end_query",
		"DELETE /api/v1/stores?address=10.0.0.1%3A9":   "forget_store",
		"GET /api/v1/queries/01Y":                      "",
		"POST /api/v1/query":                           "",
		"GET /-/prepare-downscale":                     "",
		"POST /api/v1/receive":                         "",
		"POST /x/cancel":                               "",
	} {
		method, path, _ := strings.Cut(target, " ")
		line := call(method, path, "")
		if want == "" {
			require.Empty(t, line, target)
			continue
		}
		for _, part := range []string{"msg=audit", "action=" + want, "user=alice", "remote=192.0.2.1:1234", "request_id=id-1", "status=200", "result=success"} {
			require.Contains(t, line, part, target)
		}
		require.NotContains(t, line, "hidden")
	}
	line := call("POST", "/api/v1/admin/tsdb/delete_series", "match[]=up&start=1&password=hidden&match[]="+strings.Repeat("x", 1<<20))
	require.Contains(t, line, `params="match[]=up match[]=xxx`)
	require.NotContains(t, line, "hidden")
	require.Less(t, len(line), 8<<10)
	code = 401
	line = call("POST", "/api/v1/blocks/mark?id=01X", "action=DELETION")
	require.Contains(t, line, "result=refused")
	require.Contains(t, line, `params="id=01X"`)
	code = 503
	require.Contains(t, call("POST", "/-/flush", ""), "result=failed")
}
