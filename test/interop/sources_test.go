package interop

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
)

// target is a program with counters, gauges, both kinds of histograms and exemplars.
func target(t *testing.T, host string) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "shop_request_seconds", Help: "Time of requests.",
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxExemplars: 5,
	})
	classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "shop_bytes", Help: "Bytes.", Buckets: []float64{0.1, 0.5, 0.9}})
	orders := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shop_orders_total", Help: "Orders."}, []string{"state"})
	stock := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shop_stock", Help: "Stock."}, []string{"item"})
	for i := range 5 {
		stock.WithLabelValues(fmt.Sprint("item-", i)).Set(float64(i))
	}
	reg.MustRegister(h, classic, orders, stock)
	lis, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := prometheus.Labels{"trace_id": fmt.Sprint(rand.Uint64())}
		h.(prometheus.ExemplarObserver).ObserveWithExemplar(rand.Float64(), id)
		classic.Observe(rand.Float64())
		orders.WithLabelValues("paid").(prometheus.ExemplarAdder).AddWithExemplar(2, id)
		orders.WithLabelValues("open").Inc()
		metrics.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return lis.Addr().String()
}

// pairConfig is the configuration of one of two replicas that scrape a target each second.
func (s *site) pairConfig(replica, target, more string) string {
	s.Helper()
	rules := s.file("rules.yml", `
groups:
  - name: shop
    interval: 1s
    rules:
      - record: job:orders:rate10s
        expr: sum by (job) (rate(shop_orders_total[10s]))
      - alert: ShopIsOpen
        expr: shop_orders_total > 0
        labels: {severity: page}
        annotations: {summary: "orders {{ $labels.state }}"}
  - name: alone
    interval: 1s
    rules:
      - alert: Never
        expr: vector(0) > 1
`)
	return fmt.Sprintf(`
global:
  scrape_interval: 1s
  scrape_native_histograms: true
  external_labels: {cluster: eu, replica: %[1]s}
rule_files: [%[2]q]
scrape_configs:
  - job_name: shop
    always_scrape_classic_histograms: true
    static_configs: [{targets: [%[3]q], labels: {zone: z1}}]
  - job_name: dropped
    static_configs: [{targets: ["127.0.0.1:1"]}]
    relabel_configs: [{action: drop}]
%[4]s`, replica, rules, target, more)
}

// expressions are evaluated by both programs; each has a result over the target.
func expressions() []string {
	return []string{
		`{job="shop"}`,
		`up`,
		`shop_orders_total{state=~"p.*"}`,
		`sum by (state) (rate(shop_orders_total[10s]))`,
		`increase(shop_orders_total[10s])`,
		`histogram_quantile(0.9, rate(shop_request_seconds[10s]))`,
		`histogram_quantile(0.5, sum by (le) (rate(shop_bytes_bucket[10s])))`,
		`histogram_count(shop_request_seconds)`,
		`shop_request_seconds`,
		`topk(2, shop_stock)`,
		`count by (__name__) ({job="shop"})`,
		`shop_stock / on (instance) group_left () count by (instance) (shop_stock)`,
		`shop_stock @ end() offset 2s`,
		`max_over_time(sum(shop_stock)[10s:2s])`,
		`absent(no_such_metric{a="b"})`,
		`label_replace(up, "x", "$1", "instance", "(.*):.*")`,
		`quantile_over_time(0.5, shop_stock[10s])`,
		`{__name__=~"shop_stock|up", cluster="eu"}`,
		`shop_stock{item!~"item-[12]"}`,
		`1 + 1`,
		`"text"`,
		`time()`,
		`changes(shop_orders_total[10s])`,
	}
}

// metadataQuestions ask for everything but samples.
func metadataQuestions(start, end time.Time) []question {
	at := []string{"start", seconds(start), "end", seconds(end)}
	out := []question{
		ask("/api/v1/labels"), ask("/api/v1/labels", "match[]", "shop_stock"),
		ask("/api/v1/label/__name__/values"), ask("/api/v1/label/item/values"), ask("/api/v1/label/cluster/values"),
		ask("/api/v1/label/replica/values"), ask("/api/v1/label/none/values"),
		ask("/api/v1/label/state/values", "match[]", `shop_orders_total`, "match[]", `up`),
		ask("/api/v1/label/state/values", "match[]", `{cluster="none"}`),
		ask("/api/v1/label/item/values", "match[]", `{cluster="eu"}`),
		ask("/api/v1/series", "match[]", `{job="shop"}`), ask("/api/v1/series", "match[]", `{__name__=~"shop_.*"}`, "match[]", "up"),
		ask("/api/v1/series", "match[]", "nothing_at_all"),
	}
	for i := range len(out) {
		out = append(out, out[i].with(at...))
	}
	return append(out,
		ask("/api/v1/series", "match[]", `{job="shop"}`, "dedup", "false"),
		ask("/api/v1/labels", "limit", "3"), ask("/api/v1/label/__name__/values", "limit", "2"),
		ask("/api/v1/rules"), ask("/api/v1/rules", "type", "alert"), ask("/api/v1/rules", "type", "record"),
		ask("/api/v1/rules", "rule_name[]", "ShopIsOpen"), ask("/api/v1/rules", "rule_group[]", "alone"),
		ask("/api/v1/rules", "match[]", `{severity="page"}`),
		ask("/api/v1/alerts"), ask("/api/v1/targets"), ask("/api/v1/targets", "state", "dropped"), ask("/api/v1/targets", "state", "active"),
		ask("/api/v1/metadata"), ask("/api/v1/metadata", "metric", "shop_stock"), ask("/api/v1/metadata", "limit", "0"),
		ask("/api/v1/query_exemplars", "query", "shop_orders_total", "start", seconds(start), "end", seconds(end)),
		ask("/api/v1/query_exemplars", "query", `shop_orders_total{cluster="eu"}`, "start", seconds(start), "end", seconds(end)),
	)
}

// wrongQuestions must be refused by both programs with the same status.
func wrongQuestions() []question {
	return []question{
		ask("/api/v1/query"), ask("/api/v1/query", "query", "sum("), ask("/api/v1/query", "query", "up", "time", "x"),
		ask("/api/v1/query", "query", "up", "dedup", "maybe"), ask("/api/v1/query", "query", "up", "partial_response", "2"),
		ask("/api/v1/query", "query", "up", "timeout", "soon"), ask("/api/v1/query", "query", "up", "max_source_resolution", "fine"),
		ask("/api/v1/query_range", "query", "up", "start", "0", "end", "1"), ask("/api/v1/query_range", "query", "up", "start", "2", "end", "1", "step", "1"),
		ask("/api/v1/query_range", "query", "up", "start", "0", "end", "100", "step", "0"), ask("/api/v1/query_range", "query", "up", "start", "0", "end", "20000", "step", "1"),
		ask("/api/v1/series"), ask("/api/v1/series", "match[]", "{"), ask("/api/v1/series", "match[]", "up", "start", "3", "end", "1"),
		ask("/api/v1/labels", "start", "x"), ask("/api/v1/labels", "match[]", "{a=~\"(\"}"), ask("/api/v1/label/a-b/values"), ask("/api/v1/label//values"),
		ask("/api/v1/rules", "type", "both"), ask("/api/v1/metadata", "limit", "x"), ask("/api/v1/targets", "state", "x"),
		ask("/api/v1/labels", "limit", "-1"), ask("/api/v1/query", "query", "up", "storeMatch[]", "x{"),
		ask("/api/v1/query", "query", `label_replace(up, "1x", "a", "b", "(")`), ask("/api/v1/query", "query", "up + on() up{a=\"\"}", "dedup", "false"),
	}
}
