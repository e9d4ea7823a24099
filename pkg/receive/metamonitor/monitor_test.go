package metamonitor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api is a query API with configured answers.
type api struct {
	*httptest.Server
	code   atomic.Int64
	body   atomic.Pointer[string]
	asked  atomic.Int64
	last   atomic.Pointer[http.Request]
	before func()
}

func newAPI(t *testing.T) *api {
	a := &api{}
	a.say(200, vector())
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		a.last.Store(r)
		if a.before != nil {
			a.before()
		}
		w.WriteHeader(int(a.code.Load()))
		_, _ = w.Write([]byte(*a.body.Load()))
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) say(code int64, body string) {
	a.code.Store(code)
	a.body.Store(&body)
}

// vector is an answer with samples such as `"tenant":"a"` and a value.
func vector(pairs ...string) string {
	var samples []string
	for i := 0; i < len(pairs); i += 2 {
		samples = append(samples, fmt.Sprintf(`{"metric":{%s},"value":[1700000000,"%s"]}`, pairs[i], pairs[i+1]))
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
}

func limits(t *testing.T, url, more string) *tenantlimits.Config {
	c, err := tenantlimits.Parse([]byte(`
write:
  global:
    meta_monitoring_url: ` + url + `
` + more + `
  default: {head_series_limit: 100}
`))
	require.NoError(t, err)
	return c
}

func newMonitor(t *testing.T) (*Monitor, *bytes.Buffer) {
	var log bytes.Buffer
	m := New("Hindsight/test", slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	t.Cleanup(m.end)
	return m, &log
}

func known(m *Monitor, ids ...string) map[string]int64 {
	out := map[string]int64{}
	for _, id := range ids {
		if n, ok := m.Series(id); ok {
			out[id] = n
		}
	}
	return out
}

func TestAsk(t *testing.T) {
	a := newAPI(t)
	m, log := newMonitor(t)
	require.NoError(t, m.Set(limits(t, a.URL+"/prefix?x=y", `    meta_monitoring_http_client: {basic_auth: {username: u, password: p}}`)))
	a.say(200, vector(`"tenant":"a"`, "120", `"tenant":"b","pod":"0"`, "7", `"tenant":"b","pod":"1"`, "8",
		`"tenant":"broken"`, "NaN", `"tenant":"minus"`, "-1", `"pod":"0"`, "5", `"tenant":"all"`, "+Inf"))
	m.ask(t.Context())
	n := known(m, "a", "b", "c", "broken", "minus", "")
	require.Equal(t, map[string]int64{"a": 120, "b": 15}, n, "those without a name or a number are left out")
	all, _ := m.Series("all")
	require.Greater(t, all, int64(1)<<60)
	require.Equal(t, 4.0, testutil.ToFloat64(m.metrics.unchecked))

	r := a.last.Load()
	require.Equal(t, "/prefix/api/v1/query", r.URL.Path)
	require.Equal(t, "sum(prometheus_tsdb_head_series) by (tenant)", r.URL.Query().Get("query"))
	require.Equal(t, "true", r.URL.Query().Get("dedup"))
	require.Equal(t, "y", r.URL.Query().Get("x"))
	user, password, _ := r.BasicAuth()
	require.Equal(t, "u p", user+" "+password)
	require.Equal(t, "Hindsight/test", r.UserAgent())
	require.Empty(t, log.String())
}

func TestFailuresLetWritesThrough(t *testing.T) {
	a := newAPI(t)
	m, log := newMonitor(t)
	require.NoError(t, m.Set(limits(t, a.URL, "")))
	for _, c := range []struct{ name, body, want string }{
		{"an error", `{"status":"error","errorType":"execution","error":"too much"}`, "too much"},
		{"no JSON", `<html>` + strings.Repeat("x", 1000), "no JSON"},
		{"a matrix", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, "not a vector"},
		{"broken samples", `{"status":"success","data":{"resultType":"vector","result":[5]}}`, "decode the result"},
		{"no number", vector(`"tenant":"a"`, "much"), "decode the value"},
		{"a short value", `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"tenant":"a"},"value":[1]}]}}`, "decode the value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log.Reset()
			a.say(200, vector(`"tenant":"a"`, "120"))
			m.ask(t.Context())
			require.Equal(t, map[string]int64{"a": 120}, known(m, "a"))
			a.say(422, c.body)
			for range 3 {
				m.ask(t.Context())
				require.Empty(t, known(m, "a"))
			}
			require.Contains(t, log.String(), c.want)
			require.Equal(t, 1, strings.Count(log.String(), "WARN"), "it is logged once")
			require.Less(t, log.Len(), 1000)
		})
	}
	require.Equal(t, 18.0, testutil.ToFloat64(m.metrics.queries.WithLabelValues("failure")))
	log.Reset()
	a.say(200, vector())
	m.ask(t.Context())
	m.ask(t.Context())
	require.Equal(t, 1, strings.Count(log.String(), "known again"))

	a.Close()
	m.ask(t.Context())
	require.Contains(t, log.String(), "connection refused")
	require.NotContains(t, log.String(), "prometheus_tsdb_head_series", "the whole URL is of no use")
}

func TestSet(t *testing.T) {
	a, b := newAPI(t), newAPI(t)
	a.say(200, vector(`"tenant":"a"`, "1"))
	b.say(200, vector(`"tenant":"a"`, "2"))
	m, _ := newMonitor(t)
	m.ask(t.Context())
	require.Empty(t, known(m, "a"), "no server is configured")
	require.Zero(t, testutil.ToFloat64(m.metrics.unchecked), "and nothing to check")

	require.NoError(t, m.Set(limits(t, a.URL, "")))
	m.ask(t.Context())
	require.NoError(t, m.Set(limits(t, a.URL, "    max_concurrency: 5")))
	require.Equal(t, map[string]int64{"a": 1}, known(m, "a"), "the same question keeps its answer")

	err := m.Set(limits(t, b.URL, `    meta_monitoring_limit_query: "sum(("`))
	require.ErrorContains(t, err, `meta_monitoring_limit_query "sum((": `)
	require.ErrorContains(t, m.Set(limits(t, b.URL, `    meta_monitoring_limit_query: "5"`)), "no instant vector")
	require.ErrorContains(t, m.Set(limits(t, b.URL, `    meta_monitoring_http_client: {tls_config: {ca_file: /does/not/exist}}`)), "meta_monitoring_http_client: load TLS files")
	require.Equal(t, map[string]int64{"a": 1}, known(m, "a"), "what is wrong changes nothing")

	require.NoError(t, m.Set(limits(t, b.URL, "")))
	require.Empty(t, known(m, "a"), "another question has no answer yet")
	m.ask(t.Context())
	require.Equal(t, map[string]int64{"a": 2}, known(m, "a"))

	// An answer to the earlier query does not count.
	b.before = func() { require.NoError(t, m.Set(limits(t, a.URL, ""))) }
	m.ask(t.Context())
	require.Empty(t, known(m, "a"))

	c, err := tenantlimits.Parse([]byte("write: {global: {meta_monitoring_url: '" + a.URL + "'}}"))
	require.NoError(t, err)
	require.NoError(t, m.Set(c))
	asked := a.asked.Load()
	m.ask(t.Context())
	require.Equal(t, asked, a.asked.Load(), "without a limit no query is sent")
}

func TestRun(t *testing.T) {
	a := newAPI(t)
	a.say(200, vector(`"tenant":"a"`, "1"))
	m, log := newMonitor(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	require.NoError(t, m.Set(limits(t, a.URL, "")))
	require.Eventually(t, func() bool { return len(known(m, "a")) == 1 }, 10*time.Second, time.Millisecond, "a new question is asked at once")

	// Stopping does not wait for an answer, and is no failure.
	hangs, release := make(chan struct{}), make(chan struct{})
	b := newAPI(t)
	b.before = func() { close(hangs); <-release }
	require.NoError(t, m.Set(limits(t, b.URL, "")))
	<-hangs
	stop()
	require.NoError(t, <-done)
	close(release)
	require.Empty(t, log.String())
}
