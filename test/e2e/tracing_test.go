package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// collector keeps the spans that processes send over OTLP: the names of the spans of each
// trace, with the service in front, and all attributes as text.
type collector struct {
	mu         sync.Mutex
	traces     map[string][]string
	attributes strings.Builder
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	req := ptraceotlp.NewExportRequest()
	if err == nil {
		err = req.UnmarshalProto(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.Traces().ResourceSpans().All() {
		service, _ := rs.Resource().Attributes().Get("service.name")
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				id := span.TraceID().String()
				c.traces[id] = append(c.traces[id], service.AsString()+" "+span.Name())
				fmt.Fprintln(&c.attributes, span.Attributes().AsRaw())
			}
		}
	}
}

// spans returns the spans of a trace.
func (c *collector) spans(trace string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.traces[trace], "\n")
}

// A trace goes from the client through the querier to a store over W3C headers; a client
// can force one; latency histograms name traces; and one id of a request is in the logs of
// both processes.
func TestTraces_GoThroughAllProcesses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sink := &collector{traces: map[string][]string{}}
	server := httptest.NewServer(sink)
	defer server.Close()
	addr, err := harness.Ports(harness.Host(), 5)
	require.NoError(t, err)
	start := func(role, ready string, args ...string) *harness.Process {
		t.Helper()
		// Only a parent or a forced trace is sampled.
		args = append([]string{role, "--tracing.config=type: OTLP\nconfig: {client_type: http, insecure: true, endpoint: '" +
			strings.TrimPrefix(server.URL, "http://") + "', service_name: " + role + ", sampler_type: ParentBasedTraceIDRatioBased, sampler_param: '0'}",
			"--request.logging-config=options: {level: INFO, decision: {log_end: true}}"}, args...)
		p, err := harness.Start(s.Dir, "traced-"+role, bin.Hindsight, args...)
		require.NoError(t, err)
		t.Cleanup(p.Kill)
		require.NoError(t, harness.WaitHTTP(p, "http://"+ready+"/-/ready", time.Minute))
		return p
	}
	receive := start("receive", addr[0], "--http-address="+addr[0], "--grpc-address="+addr[1], "--remote-write.address="+addr[2],
		"--receive.capnproto-address=", "--tsdb.path="+s.Path("receive"), `--label=replica="a"`)
	query := start("query", addr[3], "--http-address="+addr[3], "--grpc-address="+addr[4], "--endpoint="+addr[1])

	w := harness.Writer{URL: "http://" + addr[2] + "/api/v1/receive"}
	_, err = w.Write([]prompb.TimeSeries{harness.TimeSeries([]prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}, "__name__", "up")})
	require.NoError(t, err)
	eventually(t, time.Minute, func() error {
		a, err := harness.API{Base: "http://" + addr[3]}.Instant("up", time.Time{})
		if err == nil && len(a.Series) == 0 {
			err = errors.New("no series")
		}
		return err
	})
	ask := func(path string, header ...string) http.Header {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "http://"+path, http.NoBody)
		require.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp.Header
	}
	series := addr[3] + "/api/v1/series?token=hush&match[]=up"
	require.Empty(t, ask(series).Get("X-Thanos-Trace-Id"))
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	require.Equal(t, parent, ask(series, "traceparent", "00-"+parent+"-00f067aa0ba902b7-01", "X-Request-Id", "mine").Get("X-Thanos-Trace-Id"))
	forced := ask(series, "X-Thanos-Force-Tracing", "1").Get("X-Thanos-Trace-Id")
	require.Len(t, forced, 32)
	ask(addr[2]+"/api/v1/status/tsdb", "X-Thanos-Force-Tracing", "1")

	for role, page := range map[string]string{"query": addr[3], "receive": addr[0]} {
		text := exemplarPage(t, page)
		require.Regexp(t, `_bucket\{.*\} \d+ # \{trace_id="(`+parent+`|`+forced+`)"\}`, text, role)
	}
	require.Contains(t, exemplarPage(t, addr[3]), `http_request_duration_seconds_bucket{code="200",handler="series"`)
	// The exporter sends every five seconds, and what is left at the end.
	require.NoError(t, query.Stop(30*time.Second))
	require.NoError(t, receive.Stop(30*time.Second))
	for _, trace := range []string{parent, forced} {
		spans := sink.spans(trace)
		require.Contains(t, spans, "query get series")
		require.Contains(t, spans, "query thanos.Store/Series")
		require.Contains(t, spans, "receive thanos.Store/Series")
	}
	require.Len(t, sink.traces, 3, "%v", sink.traces)
	require.NotContains(t, sink.attributes.String(), "hush")
	require.Contains(t, sink.attributes.String(), "http.response.status_code:200")
	require.Contains(t, query.Output(), "request_id=mine ")
	require.Contains(t, receive.Output(), "request_id=mine.", "the id of the request, and a part of the querier's own")
}

// exemplarPage reads the page of metrics with exemplars.
func exemplarPage(t *testing.T, addr string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}
