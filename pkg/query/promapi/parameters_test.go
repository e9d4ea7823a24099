package promapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestInvalidParameters_Answer400(t *testing.T) {
	f := newFixture(t, nil)
	for path, more := range map[string][]string{
		"labels": nil, "label/job/values": nil, "series": {"match[]", "up"},
		"query_range": {"query", "up", "step", "1"}, "query_exemplars": {"query", "up"},
	} {
		resp, r := f.json(http.MethodGet, "/api/v1/"+path, values(append(more, "start", "200", "end", "100")...))
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, path)
		require.Equal(t, "bad_data", r.ErrorType, path)
		require.Contains(t, r.Error, "end timestamp must not be before start", path)
	}
	for _, c := range []struct{ path, want string }{
		{"labels?limit=-1", "limit must be non-negative"}, {"series?match[]=up&limit=-1", "limit must be non-negative"},
		{"label/job/values?limit=x", `invalid parameter "limit"`}, {"query?query=up&limit=-1", "limit must be non-negative"},
		{"labels?start=x", `invalid parameter "start"`}, {"series", "no match[] parameter provided"},
		{"label/%ff/values", "invalid label name"}, {"query_range?query=up&start=0&end=11002&step=1", "11,000 points"},
		{"query_range?query=up&start=0&end=1&step=0", "step"}, {"query?query=up&timeout=x", "timeout"},
		{"metadata?limit=x", `invalid parameter "limit"`},
	} {
		resp, body := f.do(http.MethodGet, "/api/v1/"+c.path+"&", nil)
		if !strings.Contains(c.path, "?") {
			resp, body = f.do(http.MethodGet, "/api/v1/"+c.path, nil)
		}
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s: %s", c.path, body)
		require.Contains(t, strings.ReplaceAll(body, `\"`, `"`), c.want, c.path)
	}
}

// The default range lies before the end that a request says.
func TestDefaultRangeOfLabels_EndsAtEndOfRequest(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Defaults.LabelRange = time.Minute })
	resp, r := f.json(http.MethodGet, "/api/v1/labels", values("end", "100"))
	require.Equal(t, 200, resp.StatusCode, r.Error)
}

func TestRoot_RedirectsToStartPage(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RoutePrefix, c.PrefixHeader = "/hs", "X-Prefix" })
	resp, _ := f.do(http.MethodGet, "/hs", nil)
	require.Equal(t, http.StatusFound, resp.StatusCode)
	require.Equal(t, "/hs/", resp.Header.Get("Location"))
	req := httptest.NewRequest(http.MethodGet, "/hs/graph", nil)
	for prefix, want := range map[string]string{"/proxy/": "/proxy/hs/", "//evil.example": "/evil.example/hs/", `/\evil.example`: "/evil.example/hs/"} {
		req.Header.Set("X-Prefix", prefix)
		require.Equal(t, want, f.api.linkPrefix(req)+"/")
	}
}

func TestStores_LeaveOutOtherTenants(t *testing.T) {
	stores := visible([]StoreStatus{
		{Name: "mine", LabelSets: []labels.Labels{labels.FromStrings("t", "a")}, Warnings: []string{"for operators"}},
		{Name: "other", LabelSets: []labels.Labels{labels.FromStrings("t", "b")}},
		{Name: "both", LabelSets: []labels.Labels{labels.FromStrings("t", "a"), labels.FromStrings("t", "b")}},
		{Name: "none"},
		{Name: "unlabelled", LabelSets: []labels.Labels{labels.FromStrings("x", "y")}},
	}, labels.MustNewMatcher(labels.MatchEqual, "t", "a"))
	var names []string
	for _, s := range stores {
		names = append(names, s.Name)
		require.Empty(t, s.Warnings)
		for _, l := range s.LabelSets {
			require.NotEqual(t, "b", l.Get("t"))
		}
	}
	require.Equal(t, []string{"mine", "both", "none", "unlabelled"}, names)
}

func (f *fixture) read(ctx context.Context, req *prompb.ReadRequest) (int, string, http.Header) {
	f.t.Helper()
	b, err := req.Marshal()
	require.NoError(f.t, err)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.srv.URL+"/api/v1/read", strings.NewReader(string(snappy.Encode(nil, b))))
	require.NoError(f.t, err)
	resp, err := f.srv.Client().Do(r)
	require.NoError(f.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err)
	return resp.StatusCode, string(body), resp.Header
}

func TestRemoteRead_IsBounded(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.CheckRead = func(r *prompb.ReadRequest) error {
			if len(r.Queries) > 1 {
				return io.ErrShortBuffer
			}
			return nil
		}
	})
	one := &prompb.Query{EndTimestampMs: 540_000, Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "up"}}}
	code, body, _ := f.read(t.Context(), &prompb.ReadRequest{Queries: []*prompb.Query{one}})
	require.Equal(t, 200, code, body)
	code, body, _ = f.read(t.Context(), &prompb.ReadRequest{Queries: []*prompb.Query{one, one}})
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, body, io.ErrShortBuffer.Error())
	big := &prompb.Query{Matchers: []*prompb.LabelMatcher{{Name: "a", Value: strings.Repeat("x", maxReadDecoded)}}}
	code, _, _ = f.read(t.Context(), &prompb.ReadRequest{Queries: []*prompb.Query{big}})
	require.Equal(t, http.StatusRequestEntityTooLarge, code)

	// All concurrency slots are taken: the client may retry.
	for range remoteReadConcurrency {
		f.api.reads <- struct{}{}
	}
	f.api.cfg.Timeout = 50 * time.Millisecond // no longer than that for a slot
	code, _, header := f.read(t.Context(), &prompb.ReadRequest{Queries: []*prompb.Query{one}})
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.NotEmpty(t, header.Get("Retry-After"))
}

// A streamed answer without series has no byte; what turns out to be missing
// after the first byte comes as a trailer.
func TestIncompleteAnswers_EmptyAndLateNameMissingStores(t *testing.T) {
	a := New(Config{})
	serve := func(h http.HandlerFunc) *http.Response {
		srv := httptest.NewServer(a.answering(h))
		defer srv.Close()
		resp, err := srv.Client().Get(srv.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp
	}
	resp := serve(func(_ http.ResponseWriter, r *http.Request) {
		storeapi.ReportFromContext(r.Context()).Warn(storeapi.Warning{Source: "a:1", Text: "x"})
	})
	require.Equal(t, "a:1", resp.Header.Get(missingHeader))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	resp = serve(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("x"))
		w.(http.Flusher).Flush()
		storeapi.ReportFromContext(r.Context()).Warn(storeapi.Warning{Source: "a:1", Text: "x"})
	})
	require.Empty(t, resp.Header.Get(missingHeader))
	require.Equal(t, "a:1", resp.Trailer.Get(missingHeader))
	resp = serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Empty(t, resp.Trailer)
}

func TestStores_ShowWarnings(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Stores = func() []StoreStatus {
			return []StoreStatus{{Component: "sidecar", Name: "a:1", Health: "up", Contacted: true, Warnings: []string{"equal <labels>"}}}
		}
	})
	_, text := f.do(http.MethodGet, "/api/v1/stores", nil)
	require.Contains(t, text, `"warnings":["equal \u003clabels\u003e"]`)
}
