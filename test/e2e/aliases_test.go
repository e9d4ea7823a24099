package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// thanosMetric is a metric that the dashboards, alerts or rules of Thanos use.
type thanosMetric struct {
	name, kind string
	// roles have an alias of it. Without any, absent says why there is none.
	roles, absent string
}

// thanosMetrics are all such metrics but those that every role has under the same name
// (http_*, grpc_*, go_*).
func thanosMetrics() []thanosMetric {
	const (
		buckets = "sidecar receive store compact"
		noGroup = "series are streamed: reading and merging are no phases of their own"
		noItems = "the gateway caches pages of objects, not items of an index: hindsight_store_page_cache_*"
		noRole  = "this program has no such role"
	)
	return []thanosMetric{
		{"thanos_objstore_bucket_operations_total", "COUNTER", buckets, ""},
		{"thanos_objstore_bucket_operation_failures_total", "COUNTER", buckets, ""},
		{"thanos_objstore_bucket_operation_duration_seconds", "HISTOGRAM", "store compact", ""},
		{"thanos_objstore_bucket_last_successful_upload_time", "GAUGE", buckets, ""},
		{"thanos_shipper_uploads_total", "COUNTER", "sidecar receive", ""},
		{"thanos_query_concurrent_gate_queries_max", "GAUGE", "query", ""},
		{"thanos_query_concurrent_gate_queries_in_flight", "GAUGE", "query", ""},
		{"thanos_query_store_apis_dns_lookups_total", "COUNTER", "query", ""},
		{"thanos_query_store_apis_dns_failures_total", "COUNTER", "query", ""},
		{"thanos_query_endpoints_dns_lookups_total", "COUNTER", "query", ""},
		{"thanos_query_endpoints_dns_failures_total", "COUNTER", "query", ""},
		{"thanos_bucket_store_block_loads_total", "", "", "blocks are opened as one step of a listing: hindsight_store_blocks_loaded"},
		{"thanos_bucket_store_block_load_failures_total", "", "", "a block that cannot be opened is quarantined: hindsight_store_blocks_quarantined"},
		{"thanos_bucket_store_block_drops_total", "", "", "as the loads"},
		{"thanos_bucket_store_block_drop_failures_total", "", "", "dropping a block cannot fail"},
		{"thanos_bucket_store_series_data_touched", "", "", "a counter, no histogram: hindsight_store_data_touched_total"},
		{"thanos_bucket_store_series_data_fetched", "", "", "a counter, no histogram: hindsight_store_data_fetches_total"},
		{"thanos_bucket_store_series_blocks_queried", "HISTOGRAM", "store", ""},
		{"thanos_bucket_store_series_result_series", "HISTOGRAM", "store", ""},
		{"thanos_bucket_store_series_get_all_duration_seconds", "", "", noGroup},
		{"thanos_bucket_store_series_merge_duration_seconds", "", "", noGroup},
		{"thanos_bucket_store_sent_chunk_size_bytes", "", "", "the sizes of single chunks are not observed"},
		{"thanos_bucket_store_series_gate_duration_seconds", "HISTOGRAM", "store", ""},
		{"thanos_bucket_store_series_gate_queries_duration_seconds", "HISTOGRAM", "store", ""},
		{"thanos_store_index_cache_requests_total", "", "", noItems},
		{"thanos_store_index_cache_hits_total", "", "", noItems},
		{"thanos_store_index_cache_items_added_total", "", "", noItems},
		{"thanos_store_index_cache_items_evicted_total", "", "", noItems},
		{"thanos_compact_group_compactions_total", "COUNTER", "compact", ""},
		{"thanos_compact_group_compactions_failures_total", "COUNTER", "compact", ""},
		{"thanos_compact_halted", "", "", "a compactor never halts; jobs that fail leave the others alone"},
		{"thanos_compact_downsample_total", "COUNTER", "compact", ""},
		{"thanos_compact_downsample_failures_total", "COUNTER", "compact", ""},
		{"thanos_compact_downsample_failed_total", "COUNTER", "compact", ""},
		{"thanos_compact_garbage_collection_total", "COUNTER", "compact", ""},
		{"thanos_compact_garbage_collection_failures_total", "COUNTER", "compact", ""},
		{"thanos_compact_garbage_collection_duration_seconds", "", "", "jobs have one histogram for all kinds: hindsight_compact_job_duration_seconds"},
		{"thanos_compact_blocks_cleaned_total", "COUNTER", "compact", ""},
		{"thanos_compact_block_cleanup_failures_total", "COUNTER", "compact", ""},
		{"thanos_compact_blocks_marked_total", "COUNTER", "compact", ""},
		{"thanos_compact_blocks_marked_for_deletion_total", "COUNTER", "compact", ""},
		{"thanos_blocks_meta_syncs_total", "COUNTER", "store compact", ""},
		{"thanos_blocks_meta_sync_failures_total", "COUNTER", "store compact", ""},
		{"thanos_blocks_meta_sync_duration_seconds", "HISTOGRAM", "store compact", ""},
		{"thanos_sidecar_prometheus_up", "GAUGE", "sidecar", ""},
		{"thanos_receive_write_timeseries", "", "", "the sizes of single requests are not observed"},
		{"thanos_receive_write_samples", "", "", "a counter, no histogram: hindsight_receive_samples_total"},
		{"thanos_receive_replications_total", "COUNTER", "receive", ""},
		{"thanos_receive_forward_requests_total", "COUNTER", "receive", ""},
		{"thanos_receive_replication_factor", "GAUGE", "receive", ""},
		{"thanos_receive_hashring_nodes", "GAUGE", "receive", ""},
		{"thanos_receive_hashrings_file_refreshes_total", "COUNTER", "receive", ""},
		{"thanos_receive_hashrings_file_errors_total", "COUNTER", "receive", ""},
		{"thanos_receive_config_last_reload_successful", "GAUGE", "receive", ""},
		{"thanos_receive_limits_config_reload_err_total", "COUNTER", "receive", ""},
		{"thanos_receive_metamonitoring_failed_queries_total", "COUNTER", "receive", ""},
		{"thanos_receive_head_series_limited_requests_total", "", "", "items are counted, not requests: hindsight_receive_rejected_total"},
		{"thanos_query_frontend_queries_total", "", "", noRole},
		{"thanos_rule_evaluation_with_warnings_total", "", "", noRole},
		{"thanos_alert_sender_alerts_dropped_total", "", "", noRole},
		{"thanos_replicate_replication_runs_total", "", "", noRole},
	}
}

// Each metric that the dashboards and alerts of Thanos use has an alias on its roles, or a
// reason why it has none.
func TestThanosAliases_ExistOnTheirRoles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	objects := "--objstore.config=type: FILESYSTEM\nconfig: {directory: " + s.Path("objects") + "}"
	host := harness.Host()
	ports, err := harness.Ports(host, 7)
	require.NoError(t, err)
	ring, prometheus := ports[0], ports[1]
	require.NoError(t, os.MkdirAll(s.Path("prometheus"), 0o755))
	require.NoError(t, os.WriteFile(s.Path("p.yml"), []byte("global: {external_labels: {cluster: a}}\n"), 0o600))
	p, err := harness.Start(s.Dir, "aliases-prometheus", bin.Prometheus, "--config.file="+s.Path("p.yml"), "--storage.tsdb.path="+s.Path("prometheus"),
		"--web.listen-address="+prometheus, "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--log.level=warn")
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.NoError(t, harness.WaitHTTP(p, "http://"+prometheus+"/-/ready", time.Minute))
	pages := map[string]map[string]*dto.MetricFamily{}
	for role, args := range map[string][]string{
		"sidecar": {objects, "--prometheus.url=http://" + prometheus, "--tsdb.path=" + s.Path("prometheus")},
		"receive": {
			objects, "--tsdb.path=" + s.Path("receive"), "--remote-write.address=" + host + ":0", "--receive.capnproto-address=",
			`--receive.hashrings=[{"hashring": "r", "endpoints": ["` + ring + `"]}]`, "--receive.local-endpoint=" + ring,
		},
		"store":   {objects, "--data-dir=" + s.Path("store")},
		"query":   {"--query.max-concurrent=7", "--endpoint=dns+localhost:1"},
		"compact": {objects, "--data-dir=" + s.Path("compact"), "--wait"},
	} {
		addr := ports[2+len(pages)]
		args = append([]string{role, "--http-address=" + addr, "--metrics.thanos-aliases"}, args...)
		if role != "compact" {
			args = append(args, "--grpc-address="+host+":0")
		}
		p, err := harness.Start(s.Dir, "aliases-"+role, bin.Hindsight, args...)
		require.NoError(t, err)
		t.Cleanup(p.Kill)
		eventually(t, time.Minute, func() error {
			families, err := scrape("http://" + addr + "/metrics")
			if err != nil {
				return err
			}
			pages[role] = families
			for _, m := range thanosMetrics() {
				if strings.Contains(" "+m.roles+" ", " "+role+" ") && families[m.name] == nil {
					return fmt.Errorf("%s has no %s", role, m.name)
				}
			}
			return nil
		})
	}
	for _, m := range thanosMetrics() {
		require.NotEqual(t, m.roles == "", m.absent == "", m.name)
		for role, families := range pages {
			f := families[m.name]
			if !strings.Contains(" "+m.roles+" ", " "+role+" ") {
				require.True(t, f == nil || m.roles != "", "%s of %s: %s", m.name, role, m.absent)
				continue
			}
			require.Equal(t, m.kind, f.GetType().String(), "%s of %s", m.name, role)
		}
	}
	require.InDelta(t, 7, pages["query"]["thanos_query_concurrent_gate_queries_max"].Metric[0].Gauge.GetValue(), 0)
	require.InDelta(t, 1, pages["receive"]["thanos_receive_hashring_nodes"].Metric[0].Gauge.GetValue(), 0)
}

// scrape reads a page of metrics.
func scrape(url string) (map[string]*dto.MetricFamily, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(resp.Body)
}
