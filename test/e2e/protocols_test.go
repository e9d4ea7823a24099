package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// target is a program with native histograms and exemplars among its metrics.
func target(t *testing.T, host string) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "shop_request_seconds", Help: "Time of requests.",
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxExemplars: 5,
	})
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shop_orders_total", Help: "Orders."}, []string{"state"})
	reg.MustRegister(h, c)
	lis, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := prometheus.Labels{"trace_id": fmt.Sprint(rand.Uint64())}
		h.(prometheus.ExemplarObserver).ObserveWithExemplar(rand.Float64(), id)
		c.WithLabelValues("paid").(prometheus.ExemplarAdder).AddWithExemplar(2, id)
		metrics.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return lis.Addr().String()
}

// Real Prometheus servers write with remote write 1.0 and 2.0, native
// histograms and exemplars included, and the querier returns the same data.
func TestRemoteWriteProtocols(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Endpoints = []string{"receive-1", "receive-2", "receive-3"}
	host := strings.Split(s.Addr("query"), ":")[0]
	for _, n := range s.Endpoints {
		s.Extra[n] = []string{"--tsdb.max-exemplars=10000"}
	}
	require.NoError(t, s.Start("s3", "receive-1", "receive-2", "receive-3", "query"))
	for cluster, message := range map[string]string{"v1": "prometheus.WriteRequest", "v2": "io.prometheus.write.v2.Request"} {
		t.Run(cluster, func(t *testing.T) {
			own := startWriter(t, s, cluster, message, target(t, host))
			seeOwnData(t, own, harness.API{Base: s.URL("query")}, cluster)
		})
	}
}

// startWriter starts a Prometheus that scrapes addr and writes to the ring.
func startWriter(t *testing.T, s *harness.Site, cluster, message, addr string) harness.API {
	t.Helper()
	listen, err := harness.Port(strings.Split(addr, ":")[0])
	require.NoError(t, err)
	config := fmt.Sprintf(`
global:
  scrape_interval: 1s
  scrape_native_histograms: true
  external_labels: {cluster: %[1]s}
scrape_configs:
  - job_name: shop
    static_configs: [{targets: [%[2]q]}]
remote_write:
  - url: http://%[3]s/api/v1/receive
    protobuf_message: %[4]s
    send_exemplars: true
    send_native_histograms: true
    metadata_config: {send: true, send_interval: 1s}
`, cluster, addr, s.Addr("receive-1/write"), message)
	require.NoError(t, os.WriteFile(s.Path(cluster+".yml"), []byte(config), 0o644))
	p, err := harness.Start(s.Dir, "prometheus-"+cluster, bin.Prometheus, "--config.file="+s.Path(cluster+".yml"),
		"--storage.tsdb.path="+s.Path(cluster), "--web.listen-address="+listen, "--log.level=warn",
		"--enable-feature=exemplar-storage,metadata-wal-records")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of prometheus-%s:\n%s", cluster, p.Tail(20))
		}
		require.NoError(t, p.Stop(30*time.Second))
	})
	require.NoError(t, harness.WaitHTTP(p, "http://"+listen+"/-/ready", time.Minute))
	return harness.API{Base: "http://" + listen}
}

// seeOwnData compares the data of a Prometheus with its data in the querier.
func seeOwnData(t *testing.T, own, global harness.API, cluster string) {
	t.Helper()
	var until time.Time
	eventually(t, time.Minute, func() error {
		err := expect(global, fmt.Sprintf(`count_over_time(shop_orders_total{cluster=%q}[1m]) > bool 5`, cluster), "1")
		until = time.Now().Add(-2 * time.Second)
		return err
	})
	for _, name := range []string{"shop_orders_total", "shop_request_seconds", "up", "scrape_samples_scraped"} {
		eventually(t, 30*time.Second, func() error {
			want, err := own.Instant(name+"[1m]", until)
			if err != nil {
				return err
			}
			got, err := global.Instant(fmt.Sprintf("%s{cluster=%q}[1m]", name, cluster), until)
			if err != nil {
				return err
			}
			if len(want.Series) != 1 || len(got.Series) != 1 {
				return fmt.Errorf("%s: %d and %d series", name, len(want.Series), len(got.Series))
			}
			// A Prometheus sends nothing that it scraped before it was ready.
			w, g := want.Series[0].Samples, got.Series[0].Samples
			if len(g) < 3 || len(w) < len(g) {
				return fmt.Errorf("%s: %d and %d samples", name, len(w), len(g))
			}
			for i, sample := range w[len(w)-len(g):] {
				if sample != g[i] {
					return fmt.Errorf("%s: %v and %v", name, sample, g[i])
				}
			}
			return nil
		})
	}
	if ans, err := global.Instant(fmt.Sprintf(`histogram_count(shop_request_seconds{cluster=%q})`, cluster), until); err != nil || len(ans.Series) != 1 {
		t.Errorf("the native histogram is none: %v %v", ans, err)
	}
	seeMetadataAndExemplars(t, own, global, cluster)
}

func seeMetadata(t *testing.T, global harness.API) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		var meta map[string][]struct{ Type, Help string }
		if err := global.JSON("/api/v1/metadata", url.Values{"metric": {"shop_orders_total"}}, &meta); err != nil {
			return err
		}
		if len(meta["shop_orders_total"]) != 1 || meta["shop_orders_total"][0].Help != "Orders." || meta["shop_orders_total"][0].Type != "counter" {
			return fmt.Errorf("metadata is %v", meta)
		}
		return nil
	})
}

func seeMetadataAndExemplars(t *testing.T, own, global harness.API, cluster string) {
	t.Helper()
	// With remote write 2.0 this version of Prometheus sends no metadata.
	if cluster == "v1" {
		seeMetadata(t, global)
	}
	type exemplars []struct {
		SeriesLabels map[string]string
		Exemplars    []struct {
			Labels    map[string]string
			Value     string
			Timestamp float64
		}
	}
	ask := func(a harness.API, query string) (map[string]string, error) {
		var e exemplars
		err := a.JSON("/api/v1/query_exemplars", url.Values{
			"query": {query}, "start": {"0"}, "end": {fmt.Sprint(time.Now().Unix() + 10)},
		}, &e)
		out := map[string]string{}
		for _, s := range e {
			for _, x := range s.Exemplars {
				out[x.Labels["trace_id"]] = fmt.Sprint(x.Value, " ", x.Timestamp)
			}
		}
		return out, err
	}
	eventually(t, 30*time.Second, func() error {
		got, err := ask(global, fmt.Sprintf(`shop_orders_total{cluster=%q}`, cluster))
		if err != nil {
			return err
		}
		want, err := ask(own, `shop_orders_total`)
		if err != nil {
			return err
		}
		if len(got) < 3 {
			return fmt.Errorf("%d exemplars", len(got))
		}
		for id, x := range got {
			if want[id] != x {
				return fmt.Errorf("exemplar %s is %q, not %q", id, x, want[id])
			}
		}
		return nil
	})
}
