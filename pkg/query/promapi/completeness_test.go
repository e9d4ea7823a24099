package promapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promclient "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// block is the field of an answer.
func block(t *testing.T, body string) completenessJSON {
	t.Helper()
	var out struct {
		Completeness *completenessJSON `json:"completeness"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &out), body)
	require.NotNil(t, out.Completeness, body)
	return *out.Completeness
}

// readingPaths are the endpoints that read from stores and answer JSON.
func readingPaths() map[string][]string {
	return map[string][]string{
		"/api/v1/query":            {"query", "up"},
		"/api/v1/query_range":      {"query", "up", "start", "0", "end", "60", "step", "15"},
		"/api/v1/series":           {"match[]", "up"},
		"/api/v1/labels":           nil,
		"/api/v1/label/job/values": nil,
		"/api/v1/metadata":         nil,
		"/api/v1/targets":          nil,
		"/api/v1/scrape_pools":     nil,
		"/api/v1/rules":            nil,
		"/api/v1/alerts":           nil,
		"/api/v1/status/tsdb":      nil,
	}
}

func TestCompleteness_IsInEveryAnswer(t *testing.T) {
	f := newFixture(t, nil)
	for path, kv := range readingPaths() {
		resp, body := f.do(http.MethodGet, path, values(kv...))
		require.Equal(t, 200, resp.StatusCode, "%s: %s", path, body)
		require.Equal(t, "true", resp.Header.Get(completeHeader), path)
		require.Equal(t, completenessJSON{Complete: true}, block(t, body), path)
		require.True(t, strings.HasPrefix(body, `{"status":"success","completeness":{"complete":true}`), body)
	}
	// An answer without series, and errors.
	resp, body := f.do(http.MethodGet, "/api/v1/query", values("query", "nothing"))
	require.Equal(t, "true", resp.Header.Get(completeHeader))
	require.True(t, block(t, body).Complete)
	resp, body = f.do(http.MethodGet, "/api/v1/query", values("query", "("))
	require.Equal(t, "false", resp.Header.Get(completeHeader))
	require.False(t, block(t, body).Complete)
	resp, _ = f.federate("", "match[]", "nothing")
	require.Equal(t, "true", resp.Header.Get(completeHeader))
	resp, _ = f.do(http.MethodGet, "/api/v1/nothing", nil)
	require.Equal(t, "false", resp.Header.Get(completeHeader))
}

// Clients accept compressed answers.
func TestCompleteness_IsInCompressedAnswers(t *testing.T) {
	f := newFixture(t, nil)
	resp, err := f.srv.Client().Get(f.srv.URL + "/api/v1/query?query=up")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.True(t, resp.Uncompressed, "the transport has asked for gzip")
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.True(t, block(t, string(body)).Complete)
}

func TestCompleteness_NamesStoreLabelsTimesAndReason(t *testing.T) {
	f := newFixture(t, nil)
	f.spy.report = func(r *storeapi.Report) {
		r.Miss(storeapi.Missing{
			Store: "b:1", LabelSets: []labels.Labels{labels.FromStrings("cluster", "eu")}, MinTime: -1 << 63, MaxTime: 5000,
			Reason: reason.StoreDown, Text: "refused",
		})
		r.Miss(storeapi.Missing{Store: "b:1", MinTime: 3000, MaxTime: 9000, Reason: reason.StoreDown, Text: "refused again"})
		r.Warn(storeapi.Warning{Source: "b:1", Text: "store b:1: refused"})
		r.Warn(storeapi.CollisionWarning(labels.FromStrings("a", "b")))
		r.Skip(storeapi.Skipped{Store: "self:1", Reason: reason.StoreIsSelf})
	}
	_, body := f.do(http.MethodGet, "/api/v1/query", values("query", "up"))
	require.Contains(t, body, `"completeness":{"complete":false,"missing":[{"store":"b:1","labels":[{"cluster":"eu"}],"mint":-9007199254740991,"maxt":9000,"reason":"store_down","error":"refused","errorId":"hs-store-down"}],"skipped":[{"store":"self:1","reason":"store_is_self"}]}`)
}

// The clients of the field read the answer as one of Prometheus.
func TestCompleteness_ClientsOfPrometheusReadTheAnswer(t *testing.T) {
	f := newFixture(t, nil)
	f.spy.missing = []string{"b:1"}
	c, err := api.NewClient(api.Config{Address: f.srv.URL})
	require.NoError(t, err)
	v, ws, _, err := promclient.NewAPI(c).Query(t.Context(), "up", time.Unix(0, 0))
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Contains(t, v.String(), `up{instance="a", job="node"} => 1`)
	_, _, _, err = promclient.NewAPI(c).Query(t.Context(), "(", time.Unix(0, 0))
	require.ErrorContains(t, err, "bad_data")
}

func TestCompleteness_OtherAnswersStayAsTheyAre(t *testing.T) {
	for _, body := range []string{"", "x", `{"status":"succ`, `{"status":"success"`, `{"status":"other","data":1}`, strings.Repeat("y", 100)} {
		for _, typ := range []string{"text/plain", "application/json"} {
			rec := httptest.NewRecorder()
			completed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", typ)
				for _, b := range []byte(body) {
					_, _ = w.Write([]byte{b})
				}
			})).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			want := body
			if body == successHead && typ == "application/json" {
				want += `,"completeness":{"complete":true}`
			}
			require.Equal(t, want, rec.Body.String())
		}
	}
}

// A client must not take what came before an error for the whole answer.
func TestAnswer_ErrorAfterFirstByteBreaksConnection(t *testing.T) {
	srv := httptest.NewServer(New(Config{}).answering(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("some"))
		w.(http.Flusher).Flush()
		http.Error(w, "store failed", http.StatusInternalServerError)
	})))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err)
}

// A store can fail after the header was sent.
func TestAnswer_StreamedSaysCompleteInTrailer(t *testing.T) {
	for _, missing := range []bool{false, true} {
		srv := httptest.NewServer(New(Config{}).answering(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", streamed+"; proto=prometheus.ChunkedReadResponse")
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			if missing {
				storeapi.ReportFromContext(r.Context()).Warn(storeapi.Warning{Source: "a:1", Text: "x"})
			}
		})))
		resp, err := srv.Client().Get(srv.URL)
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "trailer", resp.Header.Get(completeHeader))
		require.Equal(t, map[bool]string{false: "true", true: "false"}[missing], resp.Trailer.Get(completeHeader))
		srv.Close()
	}
}

// Answers that are stored, or that decide about alerts, are whole or errors.
func TestPartialResponse_DefaultsToStrictForStoredAnswers(t *testing.T) {
	for _, tc := range []struct {
		path, form string
		alert      bool
		want       bool
	}{
		{path: "/api/v1/query", want: true},
		{path: "/api/v1/query", alert: true},
		{path: "/api/v1/query", alert: true, form: "true", want: true},
		{path: "/federate"},
		{path: "/prometheus/federate"},
		{path: "/federate", form: "true", want: true},
	} {
		f := newFixture(t, nil)
		req, err := http.NewRequest(http.MethodGet, f.srv.URL+tc.path+"?"+values("query", "up", "match[]", "up", "partial_response", tc.form).Encode(), nil)
		require.NoError(t, err)
		if tc.alert {
			req.Header.Set("FromAlert", "true")
		}
		resp, err := f.srv.Client().Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, tc.want, f.spy.params.PartialResponse, "%+v", tc)
	}
}
