package main

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"
)

// synthetic are the series of an alert whose cause test/e2e makes happen with shorter times
// only. In broken they have the cause, in healthy they have not. Each line is a series of 600
// minutes, with {} for the labels of a process.
type synthetic struct{ alert, broken, healthy string }

func syntheticAlerts() []synthetic {
	counter := func(alert, metric string) synthetic {
		return synthetic{alert, metric + " 0+1x600", metric + " 7x600"}
	}
	with := func(s synthetic, both string) synthetic {
		s.broken, s.healthy = s.broken+"\n"+both, s.healthy+"\n"+both
		return s
	}
	const build = "hindsight_build_info{} 1x600"
	slow := func(metric, label string, le ...string) string {
		var lines []string
		for i, bound := range le {
			growth := "0+0x600"
			if i == len(le)-1 {
				growth = "0+60x600"
			}
			lines = append(lines, metric+`{`+label+`,le="`+bound+`"} `+growth)
		}
		return strings.Join(lines, "\n")
	}
	fast := func(metric, label string, le ...string) string {
		return strings.ReplaceAll(slow(metric, label, le...), "0+0x600", "0+60x600")
	}
	const bucket, http = "hindsight_objstore_operation_duration_seconds_bucket", "http_request_duration_seconds_bucket"
	return []synthetic{
		counter("HindsightPanics", "hindsight_grpc_server_panics_total{}"),
		with(synthetic{
			"HindsightGRPCErrors",
			`grpc_server_handled_total{grpc_code="Internal",grpc_method="Series"} 0+10x600` + "\n" + `grpc_server_handled_total{grpc_code="OK",grpc_method="Series"} 0+100x600`,
			`grpc_server_handled_total{grpc_code="Internal",grpc_method="Series"} 0+1x600` + "\n" + `grpc_server_handled_total{grpc_code="OK",grpc_method="Series"} 0+100x600`,
		}, build),
		{"HindsightBucketSlow", slow(bucket, `operation="get_range"`, "1", "9", "20", "+Inf"), fast(bucket, `operation="get_range"`, "1", "9", "+Inf")},
		with(counter("HindsightStoreMislabeled", "hindsight_fanout_mislabeled_stores_total{}"), "hindsight_fanout_unsorted_stores_total{} 0x600"),
		with(synthetic{
			"HindsightQuerySlow", slow(http, `handler="query"`, "20", "60", "120", "+Inf"), fast(http, `handler="query"`, "20", "60", "+Inf"),
		}, build),
		with(synthetic{"HindsightQueryQueueing", "hindsight_query_slots_waiting{} 3x600", "hindsight_query_slots_waiting{} 0x600"}, "hindsight_query_memory_waiting{} 0x600"),
		counter("HindsightEndpointDNSFailures", "hindsight_query_endpoint_dns_failures_total{}"),
		with(counter("HindsightReceiveHintsLost", "hindsight_receive_hints_failures_total{}"), "hindsight_receive_hints_dropped_bytes_total{} 0x600"),
		{"HindsightReceiveTenantsFailed", "hindsight_receive_tenants_failed{} 1x600", "hindsight_receive_tenants_failed{} 0x600"},
		counter("HindsightReceiveTenantsRefused", "hindsight_receive_rejected_tenants_total{}"),
		counter("HindsightReceiveUploadFailures", "hindsight_receive_upload_failures_total{}"),
		{"HindsightStoreSyncStale", "hindsight_store_last_sync_timestamp_seconds{} 1x600", "hindsight_store_last_sync_timestamp_seconds{} 1+60x600"},
		counter("HindsightStoreReadFailures", `hindsight_store_block_failures_total{reason="storage"}`),
		with(counter("HindsightStoreRequestsRefused", "hindsight_store_requests_limited_total{}"), "hindsight_store_large_requests_refused_total{} 0x600"),
		counter("HindsightHeadRecoveryFailed", `hindsight_store_heads_recovered_total{result="damaged"}`),
		{
			"HindsightCompactPassesFail",
			"hindsight_compact_passes_failed_total{} 0+1x600\nhindsight_compact_last_successful_pass_timestamp_seconds{} 1x600",
			"hindsight_compact_passes_failed_total{} 0+1x600\nhindsight_compact_last_successful_pass_timestamp_seconds{} 1+60x600",
		},
		{"HindsightCompactBacklogGrows", "hindsight_compact_keeps_up{} 0x600", "hindsight_compact_keeps_up{} 1x600"},
		{"HindsightSidecarHeadBehind", "hindsight_sidecar_head_last_ship_success_time_seconds{} 1x600", "hindsight_sidecar_head_last_ship_success_time_seconds{} 1+60x600"},
		{"HindsightSidecarUnsafeCompaction", "hindsight_sidecar_unsafe_compaction{} 1x600", "hindsight_sidecar_unsafe_compaction{} 0x600"},
	}
}

// An alert fires for series that have its cause as long as its time to wait, and for none
// that lack it.
func TestAlerts_FireForSyntheticSeries(t *testing.T) {
	content, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	groups, errs := rulefmt.Parse(content, false, model.UTF8Validation, newParser(), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	rules := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			rules[r.Alert] = r
		}
	}
	for _, s := range syntheticAlerts() {
		t.Run(s.alert, func(t *testing.T) {
			rule, ok := rules[s.alert]
			require.True(t, ok, "there is no such alert")
			firing, all := steps(t, rule, s.broken)
			require.Equal(t, all, firing, "steps of %s at which the alert is active", time.Duration(rule.For))
			firing, _ = steps(t, rule, s.healthy)
			require.Zero(t, firing)
		})
	}
}

// steps evaluates a rule each minute for its time to wait, beginning after two hours of
// series, and returns at how many of all steps it is active.
func steps(t *testing.T, rule rulefmt.Rule, series string) (active, all int) {
	t.Helper()
	var load strings.Builder
	load.WriteString("load 1m\n")
	for _, line := range strings.Split(series, "\n") {
		name, rest, _ := strings.Cut(line, "{")
		labels := `job="hindsight",instance="a"`
		if !strings.HasPrefix(rest, "}") {
			labels += ","
		}
		load.WriteString("  " + name + "{" + labels + rest + "\n")
	}
	db := promqltest.LoadedStorage(t, load.String())
	engine := promqltest.NewTestEngine(t, false, 0, 1e6)
	const first = 2 * time.Hour
	for at := first; at <= first+time.Duration(rule.For); at += time.Minute {
		q, err := engine.NewInstantQuery(t.Context(), db, nil, rule.Expr, time.Unix(0, 0).Add(at))
		require.NoError(t, err)
		v, err := q.Exec(t.Context()).Vector()
		require.NoError(t, err)
		all++
		if len(v) > 0 {
			active++
		}
		q.Close()
	}
	return active, all
}
