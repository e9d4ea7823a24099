package receive

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// metric is the labels of a series.
func metric(name string, pairs ...string) map[string]string {
	out := map[string]string{"__name__": name}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

const everyLimit = `
write:
  tenants:
    bytes:   {request: {size_bytes_limit: 2000}}
    series:  {request: {series_limit: 2}}
    samples: {request: {samples_limit: 2}}
    rate:    {samples_per_second_limit: 2}
    active:  {head_series_limit: 2}
    names:   {label_names_limit: 2}
    name:    {label_name_length_limit: 10}
    value:   {label_value_length_limit: 10}
`

// Each limit, as the sender sees it: the status, whether it should come again,
// which limit, its value, the tenant, and the series where there is one. Items
// within the limit of the same request are stored, where that can be said of parts
// of a request, and other tenants do not notice.
func TestLimits_NameTheLimitInTheAnswer(t *testing.T) {
	long := strings.Repeat("x", 11)
	for _, c := range []struct {
		tenant     string
		before     []map[string]string // written first, within the limits
		series     []map[string]string
		code       int
		retryAfter string
		text       string
		stored     []string // names, in the end
	}{
		{
			tenant: "bytes", series: []map[string]string{metric("a"), metric("b", "l", strings.Repeat("x", 2000))}, code: 413,
			text: "tenant bytes is above its limit of 2000 bytes in a request (request.size_bytes_limit): the decompressed body has 20",
		},
		{
			tenant: "series", series: []map[string]string{metric("a"), metric("b"), metric("c")}, code: 413,
			text: "tenant series is above its limit of 2 series in a request (request.series_limit): this one has 3",
		},
		{
			tenant: "samples", series: []map[string]string{metric("a"), metric("b"), metric("c")}, code: 413,
			text: "tenant samples is above its limit of 2 samples in a request (request.samples_limit): this one has 3",
		},
		{
			tenant: "rate", before: []map[string]string{metric("a"), metric("b")}, series: []map[string]string{metric("a"), metric("c")}, code: 429, retryAfter: "1",
			text:   "tenant rate is above its limit of 2 samples per second (samples_per_second_limit): 2 more are too many now",
			stored: []string{"a", "b"},
		},
		{
			tenant: "active", before: []map[string]string{metric("a"), metric("b")}, series: []map[string]string{metric("c", "job", "j"), metric("a")}, code: 429, retryAfter: "1",
			text: `tenant active: everything valid was stored, but series_limit: 1 rejected, first: ` +
				`the tenant is at its limit of 2 active series on this node (head_series_limit) at 20`,
			stored: []string{"a", "b"},
		},
		{
			tenant: "names", series: []map[string]string{metric("a", "x", "1"), metric("b", "x", "1", "y", "2")}, code: 400,
			text:   `tenant names: everything valid was stored, but too_many_labels: 1 rejected, first: more labels than the limit of 2 (label_names_limit) (series {__name__="b", x="1", y="2"})`,
			stored: []string{"a"},
		},
		{
			tenant: "name", series: []map[string]string{metric("a"), metric("b", long, "1")}, code: 400,
			text:   `tenant name: everything valid was stored, but label_name_too_long: 1 rejected, first: label name "xxxxxxxxxxx" has 11 bytes, the limit is 10 (label_name_length_limit) (series {__name__="b", xxxxxxxxxxx="1"})`,
			stored: []string{"a"},
		},
		{
			tenant: "value", series: []map[string]string{metric("a"), metric("b", "l", long)}, code: 400,
			text:   `tenant value: everything valid was stored, but label_value_too_long: 1 rejected, first: the value of label "l" has 11 bytes, the limit is 10 (label_value_length_limit) (series {__name__="b", l="xxxxxxxxxxx"})`,
			stored: []string{"a"},
		},
	} {
		t.Run(c.tenant, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Limits = flags.Inline("receive.limits-config", everyLimit)
			m := start(t, cfg, listen(t), nil)
			now := time.Now().UnixMilli()
			send := func(tenant string, ts int64, series []map[string]string) reply {
				return post(t, m.url("/api/v1/receive"), labelled(t, ts, series...), "THANOS-TENANT", tenant)
			}
			if c.before != nil {
				require.Equal(t, 200, send(c.tenant, now-1, c.before).code)
			}
			got := send(c.tenant, now, c.series)
			require.Equal(t, c.code, got.code, got.body)
			require.Contains(t, got.body, c.text)
			require.Equal(t, c.retryAfter, got.header.Get("Retry-After"))
			require.Equal(t, 200, send("other", now, c.series).code, "another tenant may")
			want := map[string]int{}
			for _, name := range c.stored {
				want[c.tenant+"/"+name] = 1
			}
			for _, s := range c.series {
				want["other/"+s["__name__"]] = 1
			}
			require.Equal(t, want, series(t, m.Store()))
			// Samples within the limit are stored with this request's time.
			for _, s := range m.db.Stats() {
				if s.Tenant == c.tenant && c.tenant != "rate" {
					require.Equal(t, now, s.MaxTime)
				}
			}
		})
	}
}

// The limit also holds for compressed bodies, before they are decompressed.
func TestSizeLimit_HoldsForEveryProtocol(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits = flags.Inline("receive.limits-config", everyLimit)
	cfg.MaxRequestBytes, cfg.MaxInflightBytes = 1_000_000, 2_000_000
	m := start(t, cfg, listen(t), nil)
	big, bomb := bytes.Repeat([]byte("0123456789abcdef"), 10_000), s2.EncodeSnappy(nil, make([]byte, 30_000))
	v2 := &writev2.Request{Symbols: []string{"", "__name__", strings.Repeat("x", 2000)}}
	for range 200 {
		v2.Timeseries = append(v2.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1}}})
	}
	symbols, err := v2.Marshal()
	require.NoError(t, err)
	const two = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	for _, c := range []struct {
		name, tenant, path, contentType string
		body                            []byte
		text                            string
	}{
		{"compressed", "bytes", "/api/v1/write", "", big, "of 2000 bytes in a request (request.size_bytes_limit): the body has"},
		{"decompressed", "bytes", "/api/v1/write", "", bomb, "of 2000 bytes in a request (request.size_bytes_limit): the decompressed body has 30000"},
		{"version 2", "bytes", "/api/v1/write", two, bomb, "of 2000 bytes in a request (request.size_bytes_limit): the decompressed body has 30000"},
		{"symbols", "other", "/api/v1/write", two, s2.EncodeSnappy(nil, symbols), fmt.Sprintf("of %d bytes in a request (64 times its size): the request with its symbols written out has", 64*len(symbols))},
		{"OTLP", "bytes", "/api/v1/otlp", "application/json", big, "of 2000 bytes in a request (request.size_bytes_limit): the body has"},
		{"of the node", "other", "/api/v1/write", "", s2.EncodeSnappy(nil, make([]byte, 1_000_001)), "of 1000000 bytes in a request (--remote-write.max-request-size): the decompressed body has 1000001"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := post(t, m.url(c.path), c.body, "THANOS-TENANT", c.tenant, "Content-Type", c.contentType)
			require.Equal(t, 413, got.code, got.body)
			require.Contains(t, got.body, "tenant "+c.tenant+" is above its limit "+c.text)
		})
	}
}

func TestLimits_Version2ReportsStoredCounts(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits = flags.Inline("receive.limits-config", "write: {default: {head_series_limit: 2, samples_per_second_limit: 100}}")
	m := start(t, cfg, listen(t), nil)
	req := &writev2.Request{Symbols: []string{"", "__name__"}}
	now := time.Now().UnixMilli()
	for i := range 5 {
		req.Symbols = append(req.Symbols, fmt.Sprint("m", i))
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: []uint32{1, uint32(2 + i)}, Samples: []writev2.Sample{{Timestamp: now, Value: 1}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	send := func() reply {
		return post(t, m.url("/api/v1/write"), s2.EncodeSnappy(nil, raw), "Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
	}
	got := send()
	require.Equal(t, 429, got.code)
	require.Contains(t, got.body, "series_limit: 3 rejected, first: the tenant is at its limit of 2 active series")
	require.Equal(t, "2", got.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	for got.code == 429 && !strings.Contains(got.body, "per second") {
		got = send()
	}
	require.Equal(t, 429, got.code)
	require.Equal(t, "0", got.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
}

// Requests above the concurrency wait; one whose sender closes it gets an error.
func TestConcurrencyLimit_RequestsWait(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits = flags.Inline("receive.limits-config", "write: {global: {max_concurrency: 1}}")
	m := start(t, cfg, listen(t), nil)
	done, err := m.admit(t.Context())
	require.NoError(t, err)
	mux := http.NewServeMux()
	m.RegisterWrite(mux)
	now := time.Now().UnixMilli()
	send := func(ctx context.Context) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/v1/receive", bytes.NewReader(v1(t, now, "a"))))
		return w
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	w := send(gone)
	require.Equal(t, 503, w.Code)
	require.Contains(t, w.Body.String(), "waited for one of 1 concurrency slots (max_concurrency)")
	require.Empty(t, series(t, m.Store()))

	answered := make(chan int)
	go func() { answered <- send(t.Context()).Code }()
	select {
	case <-answered:
		t.Fatal("there was no place")
	case <-time.After(20 * time.Millisecond):
	}
	done()
	require.Equal(t, 200, <-answered)
}
