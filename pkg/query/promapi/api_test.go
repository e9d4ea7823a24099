package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// spy is a storage that notes the parameters of the requests that reach it.
type spy struct {
	// report adds to the report of each request.
	report func(*storeapi.Report)
	storage.Storage
	params  queryopts.Options
	missing []string
	// failure is the error of each Select; may be nil.
	failure error
}

func (s *spy) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.Storage.Querier(mint, maxt)
	return spyQuerier{q, s}, err
}

func (s *spy) ExemplarQuerier(context.Context) (storage.ExemplarQuerier, error) {
	return nil, errors.New("no exemplars here")
}

type spyQuerier struct {
	storage.Querier
	spy *spy
}

func (q spyQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	q.spy.params, _ = queryopts.FromContext(ctx)
	if q.spy.report != nil {
		q.spy.report(storeapi.ReportFromContext(ctx))
	}
	for _, m := range q.spy.missing {
		storeapi.ReportFromContext(ctx).Warn(storeapi.Warning{Source: m, Text: m + " is missing"})
	}
	if q.spy.failure != nil {
		return storage.ErrSeriesSet(q.spy.failure)
	}
	return q.Querier.Select(ctx, sorted, h, ms...)
}

const testData = `
load 1m
  up{instance="a",job="node"} 1 1 1 1 1 1 1 1 1 1
  up{instance="b",job="node"} 1 1 1 1 1 0 0 0 0 0
  gone{instance="a"} 1 1 1 1 1 stale
  old{instance="a"} 7
  A_upper{Zone="z"} 0+1x9
  hist{instance="a"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x9
  gauge_hist{instance="a"} {{schema:0 sum:5 count:4 buckets:[1 2 1] counter_reset_hint:gauge}}x9
  nhcb{instance="a"} {{schema:-53 sum:30 count:6 custom_values:[1 5 10 20] buckets:[2 0 3 0 1]}}x9
`

type fixture struct {
	t   *testing.T
	spy *spy
	srv *httptest.Server
	api *API
}

func newFixture(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	s := &spy{Storage: promqltest.LoadedStorage(t, testData)}
	t.Cleanup(func() { require.NoError(t, s.Storage.Close()) })
	p := parser.NewParser(parser.Options{})
	cfg := Config{
		Engine: promqltest.NewTestEngine(t, false, 5*time.Minute, promqltest.DefaultMaxSamplesPerQuery),
		Queryable: struct {
			storage.SampleAndChunkQueryable
		}{both{s}},
		Exemplars: s,
		Parser:    p,
		Defaults:  Defaults{Defaults: queryopts.Defaults{Options: queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}, PartialResponse: true}}, Step: time.Second},
		Federate:  FederateConfig{Lookback: 5 * time.Minute, MaxSeries: 100},
		Metadata: func(context.Context, string, int) (map[string][]Metadata, []string, error) {
			return map[string][]Metadata{"up": {{Type: "gauge", Help: "h"}}}, []string{"store x is missing"}, nil
		},
		Stores: func() []StoreStatus {
			return []StoreStatus{
				{Component: "store", Name: "b:1", Health: "missing", LastError: "refused <b>", Contacted: true, LabelSets: []labels.Labels{labels.FromStrings("a", "b")}},
				{Component: "store", Name: "a:1", Health: "up", Contacted: true},
				{Component: "unknown-store-api", Name: "never:1", Health: "missing"},
			}
		},
		Flags:     map[string]string{"query.timeout": "2m"},
		BuildInfo: v1.PrometheusVersion{Version: "1.2.3"},
		Logger:    slog.New(slog.DiscardHandler),
		Now:       func() time.Time { return time.Unix(9*60, 0) },
	}
	if change != nil {
		change(&cfg)
	}
	mux := http.NewServeMux()
	api := New(cfg)
	api.Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return &fixture{t: t, spy: s, srv: srv, api: api}
}

// both gives a storage the chunk side, which these tests do not use.
type both struct{ *spy }

func (b both) Querier(mint, maxt int64) (storage.Querier, error) { return b.spy.Querier(mint, maxt) }

type response struct {
	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	Warnings  []string        `json:"warnings"`
}

func (f *fixture) do(method, path string, form url.Values) (*http.Response, string) {
	f.t.Helper()
	target := f.srv.URL + path
	var body io.Reader
	if method == http.MethodGet {
		target += "?" + form.Encode()
	} else {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequest(method, target, body)
	require.NoError(f.t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := f.srv.Client().Transport.RoundTrip(req)
	require.NoError(f.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err)
	return resp, string(b)
}

func (f *fixture) json(method, path string, form url.Values) (*http.Response, response) {
	f.t.Helper()
	resp, body := f.do(method, path, form)
	var out response
	require.NoError(f.t, json.Unmarshal([]byte(body), &out), "%s", body)
	return resp, out
}

func values(kv ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		v.Add(kv[i], kv[i+1])
	}
	return v
}

func TestGrafanaCalls_Succeed(t *testing.T) {
	f := newFixture(t, nil)
	calls := []struct {
		path string
		form url.Values
		want string
	}{
		{"query", values("query", "1+1", "time", "540"), `"resultType":"scalar"`},
		{"query", values("query", "up", "time", "540", "stats", "all"), `"samples":{`},
		{"query_range", values("query", "up", "start", "0", "end", "540", "step", "60"), `"resultType":"matrix"`},
		{"query_exemplars", values("query", "up", "start", "0", "end", "540"), ""},
		{"labels", values("match[]", `{job="node"}`, "start", "0", "end", "540"), `["__name__","instance","job"]`},
		{"labels", nil, `"Zone"`},
		{"label/instance/values", values("match[]", "up", "start", "0", "end", "540", "limit", "40000"), `["a","b"]`},
		{"series", values("match[]", "up", "start", "0", "end", "540"), `"instance":"b"`},
		{"metadata", nil, `{"up":[{"type":"gauge","help":"h","unit":""}]}`},
		{"status/buildinfo", nil, `"version":"1.2.3"`},
		{"status/flags", nil, `"query.timeout":"2m"`},
		{"status/runtimeinfo", nil, `"GOMAXPROCS"`},
		{"rules", nil, `{"groups":[]}`},
		{"alerts", nil, `{"alerts":[]}`},
		{"targets", nil, `{"activeTargets":[],"droppedTargets":[]}`},
		{"format_query", values("query", "up+1"), `up + 1`},
		{"parse_query", values("query", "up"), `vectorSelector`},
		{"features", nil, ""},
	}
	for _, prefix := range []string{"", "/prometheus", "/api/prom"} {
		for _, c := range calls {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				if method == http.MethodPost && (strings.Contains(c.path, "/") || c.form == nil) {
					continue
				}
				path := prefix + "/api/v1/" + c.path
				if c.path == "query_exemplars" {
					_, r := f.json(method, path, c.form)
					require.Contains(t, r.Error, "no exemplars here")
					continue
				}
				resp, body := f.do(method, path, c.form)
				require.Equal(t, 200, resp.StatusCode, "%s %s: %s", method, path, body)
				require.Contains(t, body, c.want, "%s %s", method, path)
			}
		}
	}
}

func TestParameters_ReachStorage(t *testing.T) {
	f := newFixture(t, nil)
	q := func(want queryopts.Options, path string, kv ...string) {
		t.Helper()
		form := values(kv...)
		form.Set("query", "up")
		form.Set("start", "0")
		form.Set("end", "540")
		resp, r := f.json(http.MethodPost, "/api/v1/"+path, form)
		require.Equal(t, 200, resp.StatusCode, r.Error)
		require.Equal(t, want, f.spy.params)
	}
	def := queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}, PartialResponse: true}
	q(def, "query")
	no := def
	no.Dedup, no.PartialResponse = false, false
	q(no, "query", "dedup", "false", "partial_response", "0")
	labels := def
	labels.ReplicaLabels = []string{"a", "b", "c"}
	q(labels, "query", "replicaLabels[]", "c,a", "replicaLabels[]", "b")
	none := def
	none.ReplicaLabels = nil
	q(none, "query", "replicaLabels[]", "")
	res := def
	res.MaxSourceResolution = 300000
	q(res, "query", "max_source_resolution", "5m")
	q(res, "query_range", "max_source_resolution", "auto", "step", "1500")
	q(def, "query", "max_source_resolution", "auto")
	shard := def
	shard.Shard = &storeapi.Shard{Index: 1, Total: 2, By: true, Labels: []string{"a"}}
	q(shard, "query", "shard_info", `{"shard_index":1,"total_shards":2,"by":true,"labels":["a"]}`)
	// A range query without a step gets one.
	q(def, "query_range")
}

func TestInvalidParameters_AreNamedInError(t *testing.T) {
	f := newFixture(t, nil)
	bad := func(want string, kv ...string) {
		t.Helper()
		form := values(kv...)
		if !form.Has("query") {
			form.Set("query", "up")
		}
		resp, r := f.json(http.MethodGet, "/api/v1/query", form)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Equal(t, "bad_data", r.ErrorType)
		require.Contains(t, r.Error, want)
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	}
	bad(`invalid parameter "dedup": "maybe" is neither true nor false`, "dedup", "maybe")
	bad(`invalid parameter "partial_response"`, "partial_response", "2")
	bad(`invalid parameter "max_source_resolution": a negative resolution`, "max_source_resolution", "-5")
	bad(`invalid parameter "max_source_resolution": "x" is neither`, "max_source_resolution", "x")
	bad(`out of range`, "max_source_resolution", "NaN")
	bad(`out of range`, "max_source_resolution", "1e300")
	bad(`invalid parameter "storeMatch[]"`, "storeMatch[]", "{")
	bad(`invalid parameter "replicaLabels[]": "\xff" is not a label name`, "replicaLabels[]", "\xff")
	bad(`shard_index 2 is not one of the 2`, "shard_info", `{"shard_index":2,"total_shards":2}`)
	bad(`invalid parameter "shard_info"`, "shard_info", `{`)
	bad(`"x" is not an engine`, "engine", "x")
	bad(`invalid parameter "lookback_delta"`, "lookback_delta", "x")
	bad(`invalid parameter "analyze"`, "analyze", "x")
	bad(`invalid parameter "query"`, "query", "sum(")
}

func TestUnknownPathsAndMethods_AreRejected(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"/api/v1/nope", "/api/v1/admin/tsdb/snapshot", "/api/v1/write"} {
		resp, r := f.json(http.MethodPost, path, nil)
		require.Equal(t, http.StatusNotFound, resp.StatusCode, path)
		require.Equal(t, "error", r.Status)
		require.Empty(t, resp.Header.Get("Allow"), path)
	}
	for _, c := range []struct{ method, path, allow string }{
		{"POST", "/api/v1/status/tsdb", "GET, HEAD, OPTIONS"},
		{"POST", "/api/v1/rules", "GET, HEAD, OPTIONS"},
		{"POST", "/prometheus/api/v1/rules", "GET, HEAD, OPTIONS"},
		{"PUT", "/api/v1/stores", "DELETE, GET, HEAD, OPTIONS"},
		{"GET", "/api/v1/queries/abc", "DELETE, OPTIONS"},
		{"GET", "/api/v1/read", "POST, OPTIONS"},
		{"DELETE", "/api/v1/query_explain", "GET, HEAD, POST, OPTIONS"},
	} {
		resp, r := f.json(c.method, c.path, nil)
		require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, c)
		require.Equal(t, c.allow, resp.Header.Get("Allow"), c)
		require.Equal(t, string(errorid.HTTPMethod), resp.Header.Get(errorid.Header), c)
		require.Equal(t, "error", r.Status, c)
		require.Contains(t, r.Error, c.allow, c)
	}
	resp, _ := f.do(http.MethodOptions, "/api/v1/query", nil)
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Equal(t, "*", resp.Header.Get("Access-Control-Allow-Origin"))

	f = newFixture(t, func(c *Config) { c.DisableCORS = true })
	resp, _ = f.do(http.MethodGet, "/api/v1/labels", nil)
	require.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"))
}

// Pages of other origins can read of each answer whether it is complete.
func TestCORS_ExposesCompleteness(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"/api/v1/query?query=1", "/api/v1/labels", "/api/v1/rules", "/api/v1/nope", "/api/v1/format_query?query=1"} {
		r, err := http.NewRequest(http.MethodGet, f.srv.URL+path, nil)
		require.NoError(t, err)
		r.Header.Set("Origin", "http://grafana.example")
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "*", resp.Header.Get("Access-Control-Allow-Origin"), path)
		for _, name := range []string{missingHeader, completeHeader, errorid.Header} {
			require.Contains(t, resp.Header.Get("Access-Control-Expose-Headers"), name, path)
		}
	}
}

func TestRoutePrefix_ServesBelowIt(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RoutePrefix = "/hindsight" })
	resp, _ := f.do(http.MethodGet, "/hindsight/api/v1/labels", nil)
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = f.do(http.MethodGet, "/api/v1/labels", nil)
	require.Equal(t, 404, resp.StatusCode)
	resp, _ = f.do(http.MethodGet, "/", nil)
	require.Equal(t, http.StatusFound, resp.StatusCode)
	require.Equal(t, "/hindsight/", resp.Header.Get("Location"))
}

func TestPrefixes_StandOnceInLinksAndRedirects(t *testing.T) {
	f := func(external, header, root, sent, want string) {
		t.Helper()
		fx := newFixture(t, func(c *Config) { c.ExternalPrefix, c.PrefixHeader, c.RoutePrefix = external, header, root })
		get := func(path string) (*http.Response, string) {
			t.Helper()
			r, err := http.NewRequest(http.MethodGet, fx.srv.URL+path, nil)
			require.NoError(t, err)
			r.Header.Set("X-Forwarded-Prefix", sent)
			resp, err := http.DefaultTransport.RoundTrip(r)
			require.NoError(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return resp, string(b)
		}
		paths := []string{"/", root}
		if root == "" {
			paths = nil
		}
		for _, path := range paths {
			resp, _ := get(path)
			require.Equal(t, http.StatusFound, resp.StatusCode, path)
			require.Equal(t, want+"/", resp.Header.Get("Location"), path)
		}
		for _, path := range []string{"/", "/graph?g0.expr=up", "/stores"} {
			resp, page := get(root + path)
			require.Equal(t, http.StatusOK, resp.StatusCode, path)
			require.Contains(t, page, `src="./assets/`, "relative, so that every prefix is in front")
			require.Contains(t, resp.Header.Get("Content-Security-Policy"), "script-src 'self';")
		}
	}
	const header = "X-Forwarded-Prefix"
	f("", "", "", "", "")
	f("/ext", "", "/ext", "", "/ext") // --web.external-prefix alone
	f("/ext", "", "", "", "/ext")     // and --web.route-prefix=/
	f("/a/ext", "", "/ext", "", "/a/ext")
	f("/ext", header, "/ext", "/other", "/ext")
	f("", header, "", "/proxy/", "/proxy")
	f("", header, "/root", "/proxy", "/proxy/root")
	f("", header, "", "//evil.example", "/evil.example")
	f("", header, "/root", "", "/root")
}

func TestIncompleteAnswers_NameMissingStores(t *testing.T) {
	f := newFixture(t, nil)
	f.spy.missing = []string{"b:1", "a:1\r\nX-Evil: 1", "b:1"}
	resp, _ := f.json(http.MethodGet, "/api/v1/query", values("query", "up"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	require.Equal(t, "a:1??X-Evil: 1,b:1", resp.Header.Get(missingHeader))
	f.spy.missing = nil
	resp, _ = f.json(http.MethodGet, "/api/v1/query", values("query", "up"))
	require.Empty(t, resp.Header.Get("Cache-Control"))
	require.Empty(t, resp.Header.Get(missingHeader))

	_, r := f.json(http.MethodGet, "/api/v1/metadata", nil)
	require.Equal(t, []string{"store x is missing"}, r.Warnings)
}

func TestStores_ListsStores(t *testing.T) {
	f := newFixture(t, nil)
	_, r := f.json(http.MethodGet, "/api/v1/stores", nil)
	require.JSONEq(t, `{"store":[
		{"name":"a:1","lastCheck":"0001-01-01T00:00:00Z","lastError":null,"labelSets":[],"minTime":0,"maxTime":0},
		{"name":"b:1","lastCheck":"0001-01-01T00:00:00Z","lastError":"refused \u003cb\u003e","labelSets":[{"a":"b"}],"minTime":0,"maxTime":0}
	]}`, string(r.Data))
	_, r = f.json(http.MethodGet, "/api/v1/stores", values("all", "true"))
	var all map[string][]map[string]any
	require.NoError(t, json.Unmarshal(r.Data, &all))
	health := map[any]any{}
	for component, list := range all {
		for _, s := range list {
			require.Equal(t, component, s["component"])
			health[s["name"]] = s["health"]
		}
	}
	require.Equal(t, map[any]any{"a:1": "up", "b:1": "missing", "never:1": "missing"}, health)
	resp, _ := f.do(http.MethodGet, "/api/v1/stores", values("all", "perhaps"))
	require.Equal(t, 400, resp.StatusCode)
	_, r = f.json(http.MethodGet, "/api/v1/stores/findings", nil)
	require.JSONEq(t, `{"findings":[{
		"severity":"error","kind":"store_unreachable","subject":"b:1","details":"refused \u003cb\u003e",
		"advice":"start the store, or correct its address"
	}]}`, string(r.Data))
}

func TestNotReady_Answers503(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Ready = func() error { return errors.New("stores not tried") } })
	resp, r := f.json(http.MethodGet, "/api/v1/query", values("query", "up"))
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, r.Error, "stores not tried")
	resp, _ = f.do(http.MethodGet, "/api/v1/status/buildinfo", nil)
	require.Equal(t, 200, resp.StatusCode)
}

func TestTenantErrors_Answer400(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Tenant = func(*http.Request) (context.Context, *labels.Matcher, error) {
			return nil, nil, errors.New("bad tenant")
		}
	})
	resp, r := f.json(http.MethodGet, "/api/v1/query", values("query", "up"))
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, r.Error, "bad tenant")
}

func TestCancelledQueries_Answer503(t *testing.T) {
	codes := errorCode(v1.ErrorCanceled, func(err error) int {
		if err.Error() == "busy" {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	code, ok := codes(v1.ErrorCanceled, promql.ErrQueryCanceled("x"))
	require.True(t, ok)
	require.Equal(t, http.StatusServiceUnavailable, code)
	code, ok = codes(v1.ErrorExec, errors.New("busy"))
	require.True(t, ok)
	require.Equal(t, http.StatusServiceUnavailable, code)
	_, ok = codes(v1.ErrorExec, errors.New("other"))
	require.False(t, ok)
}

func FuzzParameters(f *testing.F) {
	f.Add("dedup=false&max_source_resolution=auto&step=1", "/api/v1/query_range")
	f.Add("shard_info={}&replicaLabels[]=a,,b&storeMatch[]=up", "/federate")
	p := parser.NewParser(parser.Options{})
	f.Fuzz(func(_ *testing.T, query, path string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		d := Defaults{Defaults: queryopts.Defaults{Options: queryopts.Options{Dedup: true}}, Step: time.Second, LabelRange: time.Hour}
		d.fill(path, form, time.Unix(0, 0))
		params, err := d.parse(path, form, p)
		if err == nil && params.MaxSourceResolution < 0 {
			panic("negative resolution")
		}
	})
}
