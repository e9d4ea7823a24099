package receive

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

func get(t *testing.T, m *member, method, path string, header ...string) answerText {
	t.Helper()
	mux := http.NewServeMux()
	m.RegisterHTTP(mux)
	req := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, req)
	return answerText{w.Code, w.Body.String()}
}

type answerText struct {
	code int
	body string
}

func TestRingPage_ShowsMembers(t *testing.T) {
	nodes := cluster(t, 3, 3, nil)
	now := time.Now().UnixMilli()
	nodes[2].end()
	require.Equal(t, 200, post(t, nodes[0].url("/api/v1/receive"), v1(t, now, names(0, 100)...)).code)
	require.Eventually(t, func() bool {
		var s ringState
		require.NoError(t, json.Unmarshal([]byte(get(t, nodes[0], "GET", "/api/v1/receive/ring").body), &s))
		require.Len(t, s.Members, 3)
		require.Equal(t, "self", s.Members[0].State)
		sum := 0.0
		for _, m := range s.Members {
			sum += m.Share
		}
		require.InDelta(t, 1, sum, 1e-6)
		return s.Members[2].State == "down" && s.Members[2].LastError != "" && s.Members[2].HintBytes > 0
	}, time.Minute, 10*time.Millisecond)
	for _, path := range []string{"/", "/ring", "/tenants"} {
		require.Contains(t, get(t, nodes[0], "GET", path).body, "<title>Hindsight</title>")
		require.Contains(t, get(t, nodes[0], "GET", path, "Accept", "text/html,application/json").body, "<title>Hindsight</title>")
	}
	require.Contains(t, get(t, nodes[0], "GET", "/ring", "Accept", "application/json").body, `"members":`)
}

func TestTenantPages_ShowHeadUntilFlush(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), bucket.NewMemory())
	now := time.Now().UnixMilli()
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, names(0, 7)...), "THANOS-TENANT", "<b>").code)
	page := get(t, m, "GET", "/tenants", "Accept", "application/json").body
	require.Contains(t, page, `"tenant":"\u003cb\u003e"`)
	require.Contains(t, page, `{"key":"label_names_limit","value":200}`)
	top := get(t, m, "GET", "/api/v1/receive/cardinality?limit=3&tenant=%3Cb%3E").body
	require.Contains(t, top, `"numSeries":7`)
	require.Contains(t, top, `"seriesCountByMetricName":[{"name":`)
	require.Equal(t, 400, get(t, m, "GET", "/api/v1/receive/cardinality").code)
	require.Equal(t, 400, get(t, m, "GET", "/api/v1/receive/cardinality?tenant=x&limit=3x").code)
	status := httptest.NewRecorder()
	m.tsdbStatus(status, httptest.NewRequest(http.MethodGet, "/api/v1/status/tsdb?all_tenants=true&limit=3", nil))
	require.Contains(t, status.Body.String(), `"numSeries":7`)
	require.Contains(t, get(t, m, "GET", "/-/prepare-downscale").body, `"head_series":7`)
	a := get(t, m, "POST", "/-/prepare-downscale")
	require.Equal(t, 200, a.code)
	require.Contains(t, a.body, `{"head_series":0,"blocks_not_uploaded":0,`)
	require.JSONEq(t, `{"head_series":0,"blocks_not_uploaded":0}`, get(t, m, "POST", "/-/flush?tenant=x").body)
}
