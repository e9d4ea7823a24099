package promapi

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func (f *fixture) federate(accept string, kv ...string) (*http.Response, string) {
	f.t.Helper()
	req, err := http.NewRequest(http.MethodGet, f.srv.URL+"/federate?"+values(kv...).Encode(), nil)
	require.NoError(f.t, err)
	req.Header.Set("Accept", accept)
	resp, err := f.srv.Client().Do(req)
	require.NoError(f.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err)
	return resp, string(b)
}

func TestFederate_WritesText(t *testing.T) {
	f := newFixture(t, nil)
	resp, body := f.federate("", "match[]", `{__name__=~".+",__name__!="nhcb"}`)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", resp.Header.Get("Content-Type"))
	// gone ended in a stale marker, old is older than the lookback, and native
	// histograms have no text form.
	require.Equal(t, strings.TrimLeft(`
# TYPE A_upper untyped
A_upper{Zone="z",instance=""} 9 540000
# TYPE up untyped
up{instance="a",job="node"} 1 540000
up{instance="b",job="node"} 0 540000
`, "\n"), body)
	require.False(t, f.spy.params.PartialResponse, "strict by default")
	require.True(t, f.spy.params.Dedup)
}

func TestFederate_JoinsSelectors(t *testing.T) {
	f := newFixture(t, nil)
	_, body := f.federate("", "match[]", `up{instance="a"}`, "match[]", "up", "partial_response", "true")
	require.Equal(t, 2, strings.Count(body, "\nup{"))
	require.True(t, f.spy.params.PartialResponse)
}

// The header that Prometheus sends when it scrapes prefers formats that cannot
// carry every series. Prometheus does not offer OpenMetrics here either.
func TestFederate_AcceptsHeaderOfPrometheus(t *testing.T) {
	const openMetricsFirst = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5," +
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
	f := newFixture(t, nil)
	resp, body := f.federate(openMetricsFirst, "match[]", `{__name__=~"up|nhcb|hist"}`)
	require.Equal(t, 200, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Content-Type"), "text/plain")
	require.Equal(t, strings.TrimLeft(`
# TYPE nhcb histogram
nhcb_bucket{instance="a",le="1"} 2 540000
nhcb_bucket{instance="a",le="5"} 2 540000
nhcb_bucket{instance="a",le="10"} 5 540000
nhcb_bucket{instance="a",le="20"} 5 540000
nhcb_bucket{instance="a",le="+Inf"} 6 540000
nhcb_sum{instance="a"} 30 540000
nhcb_count{instance="a"} 6 540000
# TYPE up untyped
up{instance="a",job="node"} 1 540000
up{instance="b",job="node"} 0 540000
`, "\n"), body)

	proto := "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7," + openMetricsFirst
	resp, body = f.federate(proto, "match[]", `{__name__=~"up|nhcb|hist|gauge_hist"}`)
	require.Equal(t, 200, resp.StatusCode)
	dec := expfmt.NewDecoder(bytes.NewReader([]byte(body)), expfmt.ResponseFormat(resp.Header))
	got := map[string]dto.MetricType{}
	for {
		var mf dto.MetricFamily
		if err := dec.Decode(&mf); err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		got[mf.GetName()] = mf.GetType()
		if mf.GetName() == "nhcb" {
			require.Len(t, mf.GetMetric()[0].GetHistogram().GetBucket(), 4, "empty buckets stay")
		}
	}
	require.Equal(t, map[string]dto.MetricType{
		"up": dto.MetricType_UNTYPED, "nhcb": dto.MetricType_HISTOGRAM,
		"hist": dto.MetricType_HISTOGRAM, "gauge_hist": dto.MetricType_GAUGE_HISTOGRAM,
	}, got)
}

func TestFederate_WithoutSeriesNamesMissingStores(t *testing.T) {
	f := newFixture(t, nil)
	f.spy.missing = []string{"b:1"}
	resp, body := f.federate("", "match[]", "nothing", "partial_response", "true")
	require.Equal(t, 200, resp.StatusCode)
	require.Empty(t, body)
	require.Equal(t, "b:1", resp.Header.Get(missingHeader))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
}

// One series that no encoder takes is left out, and named; the others stay.
func TestFederate_LeavesOutInvalidSeries(t *testing.T) {
	a := New(Config{Logger: slog.New(slog.DiscardHandler)})
	name, typ, val := "m", dto.MetricType_UNTYPED, 1.0
	good := &dto.Metric{Untyped: &dto.Untyped{Value: &val}}
	ctx, report := storeapi.NewReportContext(t.Context())
	rec := httptest.NewRecorder()
	a.exposition(rec, httptest.NewRequestWithContext(ctx, http.MethodGet, "/federate", nil),
		[]*dto.MetricFamily{{Name: &name, Type: &typ, Metric: []*dto.Metric{good, {}, good}}}, expfmt.NewFormat(expfmt.TypeTextPlain))
	require.Equal(t, 2, strings.Count(rec.Body.String(), "m 1\n"), rec.Body)
	require.Equal(t, []string{"metric m"}, namesOf(report))
}

func TestFederate_WritesProtobuf(t *testing.T) {
	f := newFixture(t, nil)
	resp, body := f.federate(string(expfmt.NewFormat(expfmt.TypeProtoDelim)), "match[]", `{__name__=~"hist|up"}`)
	dec := expfmt.NewDecoder(bytes.NewReader([]byte(body)), expfmt.ResponseFormat(resp.Header))
	var mf dto.MetricFamily
	require.NoError(t, dec.Decode(&mf))
	require.Equal(t, "hist", mf.GetName())
	require.Equal(t, dto.MetricType_HISTOGRAM, mf.GetType())
	h := mf.GetMetric()[0].GetHistogram()
	require.Equal(t, 4.0, h.GetSampleCountFloat())
	require.Equal(t, 5.0, h.GetSampleSum())
	require.Equal(t, []float64{1, 2, 1}, h.GetPositiveCount())
	require.NoError(t, dec.Decode(&mf))
	require.Equal(t, "up", mf.GetName())
	require.ErrorIs(t, dec.Decode(&mf), io.EOF)
}

func TestFederate_RejectsInvalidRequests(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Federate.MaxSeries = 1 })
	resp, body := f.federate("", "match[]", "up")
	require.Equal(t, http.StatusUnprocessableEntity, resp.StatusCode)
	require.Contains(t, body, "match more than 1")
	resp, _ = f.federate("", "match[]", `up{instance="a"}`)
	require.Equal(t, 200, resp.StatusCode)
	resp, body = f.federate("")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, body, "no match[]")
	resp, _ = f.federate("", "match[]", "{")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	resp, body = f.federate("", "match[]", "up", "dedup", "x")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, body, "dedup")
}

func TestFederate_NotReadyAnswers503(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Ready = func() error { return errors.New("x") } })
	resp, _ := f.federate("", "match[]", "up")
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
}
