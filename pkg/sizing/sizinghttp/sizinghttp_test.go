package sizinghttp

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/sizing"
)

func ask(t *testing.T, query string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	Serve(w, httptest.NewRequest(http.MethodGet, "/api/v1/sizing?"+query, nil))
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	return w
}

func needs(t *testing.T, query string) map[string]need {
	t.Helper()
	w := ask(t, query)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var a struct {
		Status string
		Data   []need
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
	require.Equal(t, "success", a.Status)
	out := map[string]need{}
	for _, n := range a.Data {
		require.NotEmpty(t, n.Text)
		out[n.Part+" "+n.Resource] = n
	}
	return out
}

func TestServe_ComputesTheLoadOfTheParameters(t *testing.T) {
	first := needs(t, "")
	require.Contains(t, first, "sidecar memory")
	given := url.Values{}
	for name, value := range sizing.Defaults() {
		given.Set(name, value)
	}
	require.Equal(t, first, needs(t, given.Encode()), "a parameter that is missing has its default")
	require.Equal(t, first, needs(t, "series=&interval="))

	require.Equal(t, 2*first["bucket raw"].Amount, needs(t, "series=2e6&sources=2")["bucket raw"].Amount)
	ring := needs(t, "receive.nodes=6&downsampling.disable=true")
	require.Contains(t, ring, "receive memory")
	require.Equal(t, "0 B", ring["bucket 5m"].Text)
}

func TestServe_EachParameterCounts(t *testing.T) {
	first := needs(t, "receive.nodes=6")
	for name, value := range map[string]string{
		"series": "5", "interval": "1m", "churn": "4", "sources": "7", "replicas": "2", "receive.nodes": "9", "receive.replication-factor": "2",
		"tsdb.retention": "1d", "deduplicated": "true", "retention.resolution-raw": "90d", "retention.resolution-5m": "90d",
		"retention.resolution-1h": "90d", "downsampling.disable": "true", "bytes-per-sample": "3",
	} {
		require.Contains(t, sizing.Defaults(), name)
		query := url.Values{"receive.nodes": {"6"}}
		query.Set(name, value)
		require.NotEqual(t, first, needs(t, query.Encode()), name)
	}
}

func TestServe_RefusesWrongParameters(t *testing.T) {
	for query, want := range map[string]string{
		"series=many":                     `parameter series="many": give a number`,
		"series=NaN":                      "NaN series",
		"series=-1":                       "-1 series",
		"interval=15":                     `parameter interval="15": give a duration`,
		"sources=1.5":                     `parameter sources="1.5": give a whole number`,
		"sources=99999999999":             "give a whole number",
		"deduplicated=perhaps":            "give true or false",
		"receive.nodes=2":                 "a replication factor of 3 needs at least as many",
		"retention.resolution-raw=0s":     "kept for ever has no size",
		"receive.nodes=x&sources=y&q=%3C": `parameter sources="y"`,
	} {
		w := ask(t, query)
		require.Equal(t, http.StatusBadRequest, w.Code, query)
		var a map[string]string
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
		require.Equal(t, "bad_data", a["errorType"])
		require.Contains(t, a["error"], want)
		require.NotEmpty(t, w.Header().Get(errorid.Header))
	}
}
