package promapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
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

func TestFederateText(t *testing.T) {
	f := newFixture(t, nil)
	resp, body := f.federate("", "match[]", `{__name__=~".+"}`)
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

func TestFederateSelectorsAreJoined(t *testing.T) {
	f := newFixture(t, nil)
	_, body := f.federate("", "match[]", `up{instance="a"}`, "match[]", "up", "partial_response", "true")
	require.Equal(t, 2, strings.Count(body, "\nup{"))
	require.True(t, f.spy.params.PartialResponse)
}

func TestFederateOpenMetrics(t *testing.T) {
	f := newFixture(t, nil)
	resp, body := f.federate("application/openmetrics-text;version=1.0.0", "match[]", "up")
	require.Contains(t, resp.Header.Get("Content-Type"), "application/openmetrics-text")
	require.Equal(t, "# TYPE up unknown\nup{instance=\"a\",job=\"node\"} 1.0 540.0\nup{instance=\"b\",job=\"node\"} 0.0 540.0\n# EOF\n", body)
}

func TestFederateProtobuf(t *testing.T) {
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

func TestFederateRefuses(t *testing.T) {
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

func TestFederateNotReady(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Ready = func() error { return errors.New("x") } })
	resp, _ := f.federate("", "match[]", "up")
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
}
