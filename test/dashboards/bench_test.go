package dashboards

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dashboardQuery is one query of the list.
type dashboardQuery struct {
	name, expr string
	span, step time.Duration // 0 is an instant query
}

// heavy are the queries whose CPU is compared with Prometheus.
func heavy() []dashboardQuery {
	return []dashboardQuery{
		{"rate", `sum by (service,cluster)(rate(http_requests_total[5m]))`, 24 * time.Hour, time.Minute},
		{"cpu", `sum by (instance)(rate(node_cpu_seconds_total{mode!="idle"}[10m]))`, 24 * time.Hour, 2 * time.Minute},
		{"quantile", `histogram_quantile(0.99, sum by (le,service)(rate(http_request_duration_seconds_bucket[5m])))`, 6 * time.Hour, time.Minute},
	}
}

// more are the other queries of the list of nine, whose memory is measured.
func more() []dashboardQuery {
	return []dashboardQuery{
		{"errors", `sum by (service)(rate(http_requests_total{code=~"5.."}[5m])) / sum by (service)(rate(http_requests_total[5m]))`, 24 * time.Hour, time.Minute},
		{"top", `topk(5, sum by (handler)(rate(http_requests_total[10m])))`, 24 * time.Hour, 2 * time.Minute},
		{"busy", `avg by (cluster)(rate(node_cpu_seconds_total{mode="user"}[5m]))`, 24 * time.Hour, time.Minute},
		{"max", `max by (instance)(max_over_time(process_gauge_042[1h]))`, 24 * time.Hour, 5 * time.Minute},
		{"count", `count by (job)(http_requests_total)`, 24 * time.Hour, 5 * time.Minute},
		{"scattered", scattered, 24 * time.Hour, 2 * time.Minute},
	}
}

const scattered = `rate(node_cpu_seconds_total{instance="10.1.0.7:9100",mode="user"}[5m])`

// instant are the queries of alerts and of single-value panels.
func instant() []dashboardQuery {
	return []dashboardQuery{
		{"instant-rate", `sum by (service)(rate(http_requests_total[5m]))`, 0, 0},
		{"instant-select", `count(http_requests_total)`, 0, 0},
		{"instant-quantile", `histogram_quantile(0.9, sum by (le)(rate(http_request_duration_seconds_bucket[5m])))`, 0, 0},
	}
}

func (s *site) run(base string, q dashboardQuery) string {
	end := time.UnixMilli(s.start).Add(hours * time.Hour)
	p, path := url.Values{"query": {q.expr}}, "/api/v1/query"
	if q.span == 0 {
		p.Set("time", fmt.Sprint(end.Add(-time.Minute).Unix()))
	} else {
		path = "/api/v1/query_range"
		p.Set("start", fmt.Sprint(end.Add(-q.span).Unix()))
		p.Set("end", fmt.Sprint(end.Add(-time.Minute).Unix()))
		p.Set("step", fmt.Sprint(q.step.Seconds()))
	}
	body, err := get(base+path, p)
	require.NoError(s.b, err, "%s at %s", q.expr, base)
	require.Contains(s.b, body, `"metric"`, "%s at %s has no result", q.expr, base)
	return body
}

// BenchmarkDashboards measures the list of queries. CPU is that of gateway and querier
// together, warm, as a ratio to that of Prometheus.
func BenchmarkDashboards(b *testing.B) {
	s := newSite(b)
	for _, q := range append(heavy(), instant()...) {
		b.Run(q.name, func(b *testing.B) { s.compare(b, q) })
	}
	b.Run("scattered", s.scattered)
	b.Run("memory", s.memory)
}

// compare measures one query several times, here and on Prometheus in turn.
func (s *site) compare(b *testing.B, q dashboardQuery) {
	times := 1
	if q.span == 0 {
		times = 20
	}
	ours, theirs := s.run(s.queryURL, q), s.run(s.prometheusURL, q)
	require.Equal(b, strings.Count(theirs, `"metric"`), strings.Count(ours, `"metric"`), "series of %s", q.expr)
	begin := cpu(b, s.store, s.query)
	for range keepingRuns {
		s.run(s.queryURL, q)
	}
	keeping := cpu(b, s.store, s.query) - begin
	var here, there, store float64
	var took time.Duration
	n := 0
	for b.Loop() {
		n++
		before, beforeStore, begin := cpu(b, s.store, s.query), cpu(b, s.store), time.Now()
		for range times {
			s.run(s.queryURL, q)
		}
		took += time.Since(begin)
		here += cpu(b, s.store, s.query) - before
		store += cpu(b, s.store) - beforeStore
		before = cpu(b, s.prometheus)
		for range times {
			s.run(s.prometheusURL, q)
		}
		there += cpu(b, s.prometheus) - before
	}
	runs := float64(n * times)
	b.ReportMetric(here/there, q.name+"-ratio")
	b.ReportMetric(1000*here/runs, "cpu-ms")
	b.ReportMetric(1000*store/runs, "store-cpu-ms")
	b.ReportMetric(1000*there/runs, "prometheus-cpu-ms")
	b.ReportMetric(1000*keeping/keepingRuns, "keeping-cpu-ms")
	b.ReportMetric(float64(took.Milliseconds())/runs, "latency-ms")
}

// keepingRuns is how many times a query is asked before it is measured: in the first few of
// them the gateway keeps chunks as columns. Prometheus keeps nothing.
const keepingRuns = 8

// scattered measures a selector whose series are scattered over their metric: cold,
// with an empty gateway, and warm.
func (s *site) scattered(b *testing.B) {
	q := dashboardQuery{"scattered", scattered, 24 * time.Hour, 2 * time.Minute}
	const blocks = hours / blockHours * 4
	s.restart()
	gets, heads, bytes := s.proxy.gets.Load(), s.proxy.heads.Load(), s.proxy.bytes.Load()
	begin := time.Now()
	s.run(s.queryURL, q)
	cold := time.Since(begin)
	gets, heads, bytes = s.proxy.gets.Load()-gets, s.proxy.heads.Load()-heads, s.proxy.bytes.Load()-bytes
	var warm time.Duration
	n := 0
	for b.Loop() {
		n++
		const times = 10
		least := time.Hour
		for range times {
			begin = time.Now()
			s.run(s.queryURL, q)
			least = min(least, time.Since(begin))
		}
		warm += least
	}
	used := s.usedBytes(scattered)
	b.ReportMetric(float64(bytes)/float64(used), "cold-bytes/used")
	b.ReportMetric(float64(gets)/blocks, "cold-GETs/block")
	b.ReportMetric(float64(heads), "cold-HEADs")
	b.ReportMetric(float64(bytes)/(1<<20), "cold-MiB")
	b.ReportMetric(float64(cold.Milliseconds()), "cold-ms")
	b.ReportMetric(float64(warm.Microseconds())/1000/float64(n), "warm-ms")
}

// memory measures the peak of the memory of a gateway and a querier that have run
// the whole list.
func (s *site) memory(b *testing.B) {
	s.restart()
	for b.Loop() {
		for _, q := range append(heavy(), more()...) {
			s.run(s.queryURL, q)
		}
	}
	for name, p := range map[string]interface{ Peak() (int64, error) }{"querier": s.query, "gateway": s.store, "prometheus": s.prometheus} {
		peak, err := p.Peak()
		require.NoError(b, err)
		b.ReportMetric(float64(peak)/(1<<20), name+"-peak-MiB")
	}
}
