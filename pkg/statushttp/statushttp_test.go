package statushttp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/statushttp"
)

func TestHandler_AnswersLikePrometheus(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	mux := http.NewServeMux()
	statushttp.Handler{Flags: map[string]string{"data-dir": `<b>"x"`}, Started: started}.Register(mux)
	get := func(path string) map[string]any {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/status/"+path, nil))
		require.Equal(t, http.StatusOK, w.Code, path)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		var a struct {
			Status string
			Data   map[string]any
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
		require.Equal(t, "success", a.Status)
		return a.Data
	}
	require.Equal(t, map[string]any{"data-dir": `<b>"x"`}, get("flags"))
	require.Equal(t, runtime.Version(), get("buildinfo")["goVersion"])
	got := get("runtimeinfo")
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, host, got["hostname"])
	require.Equal(t, started.Format(time.RFC3339), got["startTime"])
	require.Positive(t, got["goroutineCount"])

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/status/flags", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}
