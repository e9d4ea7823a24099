package deletehttp

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
)

func call(t *testing.T, h Handler, method, path string, form url.Values) (int, string) {
	t.Helper()
	mux := http.NewServeMux()
	h.Register(mux)
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestHandler_CreatesListsAndCancels(t *testing.T) {
	h := Handler{Bucket: bucket.NewMemory()}
	code, body := call(t, h, "POST", deletePath, url.Values{
		"match[]": {`up{job="x"}`, "down"}, "start": {"1.5"}, "end": {"2020-01-01T00:00:00Z"}, "tenant": {"a"}, "details": {"asked by bob"},
	})
	require.Equal(t, http.StatusOK, code, body)
	var got struct {
		Data struct {
			ID, State, TenantLabel string
			Mint, Maxt             int64
			Selectors              []string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, "pending", got.Data.State)
	require.Equal(t, int64(1500), got.Data.Mint)
	require.Equal(t, int64(1577836800000), got.Data.Maxt)
	_, body = call(t, h, "GET", listPath, nil)
	require.Contains(t, body, got.Data.ID)
	require.Contains(t, body, `"tenant_label":"tenant_id"`)
	code, _ = call(t, h, "POST", listPath+"/"+got.Data.ID+"/cancel", nil)
	require.Equal(t, http.StatusNoContent, code)
	_, body = call(t, h, "GET", listPath, nil)
	require.Contains(t, body, `"state":"cancelled"`)

	_, body = call(t, h, "PUT", deletePath+"?match[]=up&delay=0s", nil)
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	code, _ = call(t, h, "POST", listPath+"/"+got.Data.ID+"/cancel", nil)
	require.Equal(t, http.StatusConflict, code)
}

func TestHandler_RefusesWithoutWriting(t *testing.T) {
	b := bucket.NewMemory()
	up := url.Values{"match[]": {"up"}}
	for name, c := range map[string]struct {
		h    Handler
		form url.Values
	}{
		"disabled":    {Handler{Bucket: b, Disabled: "--disable-admin-operations"}, up},
		"no bucket":   {Handler{}, up},
		"no selector": {Handler{Bucket: b}, nil},
		"everything":  {Handler{Bucket: b}, url.Values{"match[]": {`{a=~".*"}`}}},
		"bad time":    {Handler{Bucket: b}, url.Values{"match[]": {"up"}, "start": {"yesterday"}}},
		"huge time":   {Handler{Bucket: b}, url.Values{"match[]": {"up"}, "end": {"1e300"}}},
		"bad delay":   {Handler{Bucket: b}, url.Values{"match[]": {"up"}, "delay": {"soon"}}},
		"huge body":   {Handler{Bucket: b}, url.Values{"match[]": {strings.Repeat("x", 2<<20)}}},
	} {
		code, body := call(t, c.h, "POST", deletePath, c.form)
		require.Equal(t, http.StatusBadRequest, code, name)
		require.Contains(t, body, `"status":"error"`)
	}
	entries, err := deletion.NewPoller(b, nil, nil).Poll(t.Context())
	require.NoError(t, err)
	require.Empty(t, entries)
	h := Handler{Bucket: b}
	code, _ := call(t, h, "POST", listPath+"/x/cancel", nil)
	require.Equal(t, http.StatusBadRequest, code)
	code, _ = call(t, h, "POST", listPath+"/01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel", nil)
	require.Equal(t, http.StatusNotFound, code)
	code, _ = call(t, h, "GET", deletePath, nil)
	require.Equal(t, http.StatusMethodNotAllowed, code)
}
