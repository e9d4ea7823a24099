package thanosmetrics

import "slices"

// ofReceive is a metric that only receivers have.
const ofReceive = "hindsight_receive_samples_total"

// aliases returns all aliases. Where Thanos's own dashboards use a name that its code no
// longer has, both exist.
func aliases() []alias {
	return slices.Concat(storageAliases(), queryAliases(), compactAliases(), receiveAliases())
}

// storageAliases are those of every process, of buckets and of uploads.
func storageAliases() []alias {
	operations := map[string]map[string]string{"operation": {
		"list": "iter", "get": "get", "get_range": "get_range", "stat": "attributes", "upload": "upload", "delete": "delete",
	}}
	return []alias{
		{name: "thanos_build_info", from: "hindsight_build_info"},
		{name: "grpc_req_panics_recovered_total", from: "hindsight_grpc_server_panics_total"},
		{name: "thanos_objstore_bucket_operations_total", from: "hindsight_objstore_operations_total", values: operations},
		{name: "thanos_objstore_bucket_operation_failures_total", from: "hindsight_objstore_operation_failures_total", values: operations},
		{name: "thanos_objstore_bucket_operation_duration_seconds", from: "hindsight_objstore_operation_duration_seconds", values: operations},
		{name: "thanos_objstore_bucket_last_successful_upload_time", from: "hindsight_objstore_last_successful_upload_timestamp_seconds"},

		{name: "thanos_shipper_uploads_total", from: "hindsight_shipper_uploads_total"},
		{name: "thanos_shipper_upload_failures_total", from: "hindsight_shipper_upload_failures_total"},
		{name: "thanos_shipper_dir_syncs_total", from: "hindsight_shipper_syncs_total"},
		{name: "thanos_shipper_dir_sync_failures_total", from: "hindsight_shipper_sync_failures_total"},
		{name: "thanos_sidecar_prometheus_up", from: "hindsight_sidecar_prometheus_up"},
	}
}

// queryAliases are those of queriers and store gateways.
func queryAliases() []alias {
	return []alias{
		{name: "thanos_query_concurrent_gate_queries_max", from: "hindsight_query_slots"},
		{name: "thanos_query_concurrent_gate_queries_in_flight", from: "hindsight_query_slots_taken"},
		{name: "thanos_query_endpoints_dns_lookups_total", from: "hindsight_query_endpoint_dns_lookups_total"},
		{name: "thanos_query_endpoints_dns_failures_total", from: "hindsight_query_endpoint_dns_failures_total"},
		{name: "thanos_query_store_apis_dns_lookups_total", from: "hindsight_query_endpoint_dns_lookups_total"},
		{name: "thanos_query_store_apis_dns_failures_total", from: "hindsight_query_endpoint_dns_failures_total"},
		{name: "thanos_store_nodes_grpc_connections", from: "hindsight_query_endpoints", only: map[string]string{"health": "up"}, labels: map[string]string{"component": "store_type"}},

		{name: "thanos_bucket_store_blocks_loaded", from: "hindsight_store_blocks_loaded"},
		{name: "thanos_bucket_store_blocks_last_loaded_timestamp_seconds", from: "hindsight_store_last_sync_timestamp_seconds"},
		{name: "thanos_bucket_store_series_blocks_queried", from: "hindsight_store_request_blocks"},
		{name: "thanos_bucket_store_series_result_series", from: "hindsight_store_request_series"},
		{name: "thanos_bucket_store_series_gate_duration_seconds", from: "hindsight_store_gate_duration_seconds"},
		{name: "thanos_bucket_store_series_gate_queries_duration_seconds", from: "hindsight_store_gate_duration_seconds"},
	}
}

// compactAliases are those of listings of the bucket and of compactors. Thanos counts the
// attempts of compactions, so the jobs that were started are their counterpart.
func compactAliases() []alias {
	kind := func(name, from, kind string) alias {
		return alias{name: name, from: from, only: map[string]string{"kind": kind}}
	}
	jobs := func(name, from, kind string) alias {
		return alias{name: name, from: from, only: map[string]string{"kind": kind}, labels: map[string]string{"resolution": ""}}
	}
	return []alias{
		{name: "thanos_blocks_meta_syncs_total", from: "hindsight_blocklist_polls_total"},
		{name: "thanos_blocks_meta_sync_failures_total", from: "hindsight_blocklist_poll_failures_total"},
		{name: "thanos_blocks_meta_sync_duration_seconds", from: "hindsight_blocklist_poll_duration_seconds"},
		{name: "thanos_compact_iterations_total", from: "hindsight_compact_passes_total"},
		kind("thanos_compact_group_compactions_total", "hindsight_compact_jobs_started_total", "merge"),
		kind("thanos_compact_group_compactions_failures_total", "hindsight_compact_jobs_failed_total", "merge"),
		kind("thanos_compact_group_compaction_runs_started_total", "hindsight_compact_jobs_started_total", "merge"),
		kind("thanos_compact_group_compaction_runs_completed_total", "hindsight_compact_jobs_completed_total", "merge"),
		kind("thanos_compact_todo_compactions", "hindsight_compact_todo_jobs", "merge"),
		kind("thanos_compact_todo_compaction_blocks", "hindsight_compact_todo_blocks", "merge"),
		kind("thanos_compact_todo_downsample_blocks", "hindsight_compact_todo_blocks", "downsample"),
		kind("thanos_compact_todo_deletion_blocks", "hindsight_compact_todo_blocks", "delete"),
		jobs("thanos_compact_garbage_collection_total", "hindsight_compact_jobs_started_total", "mark-deletion"),
		jobs("thanos_compact_garbage_collection_failures_total", "hindsight_compact_jobs_failed_total", "mark-deletion"),
		jobs("thanos_compact_blocks_cleaned_total", "hindsight_compact_jobs_completed_total", "delete"),
		jobs("thanos_compact_block_cleanup_failures_total", "hindsight_compact_jobs_failed_total", "delete"),
		{name: "thanos_compact_blocks_marked_total", from: "hindsight_compact_blocks_marked_total"},
		{
			name: "thanos_compact_blocks_marked_for_deletion_total", from: "hindsight_compact_blocks_marked_total",
			only: map[string]string{"marker": "deletion-mark.json"}, labels: map[string]string{"reason": ""},
		},
		{name: "thanos_compact_downsample_total", from: "hindsight_compact_jobs_started_total", only: map[string]string{"kind": "downsample"}, values: downsampled()},
		{name: "thanos_compact_downsample_failures_total", from: "hindsight_compact_jobs_failed_total", only: map[string]string{"kind": "downsample"}, values: downsampled()},
		{name: "thanos_compact_downsample_failed_total", from: "hindsight_compact_jobs_failed_total", only: map[string]string{"kind": "downsample"}, values: downsampled()},
	}
}

// receiveAliases are those of receivers. A write is a replication: an answer with status 2xx
// is a success, one with 5xx an error.
func receiveAliases() []alias {
	deliveries := map[string]map[string]string{"result": {"ok": "success", "": "error"}}
	writes := map[string]map[string]string{"result": {
		"200": "success", "202": "success", "204": "success", "500": "error", "503": "error", "504": "error",
	}}
	return []alias{
		{name: "thanos_receive_forward_requests_total", from: "hindsight_receive_forwards_total", values: deliveries},
		{name: "thanos_receive_replications_total", from: "hindsight_receive_requests_total", labels: map[string]string{"code": "result"}, values: writes},
		{name: "thanos_receive_replication_factor", from: "hindsight_receive_replication_factor"},
		{name: "thanos_receive_hashring_nodes", from: "hindsight_receive_hashring_members", labels: map[string]string{"hashring": "name"}},
		{name: "thanos_receive_hashrings_file_refreshes_total", from: "hindsight_receive_hashring_reads_total"},
		{name: "thanos_receive_hashrings_file_errors_total", from: "hindsight_receive_hashring_refused_total"},
		{name: "thanos_receive_config_last_reload_successful", from: "hindsight_config_last_reload_successful", role: ofReceive},
		{name: "thanos_receive_config_last_reload_success_timestamp_seconds", from: "hindsight_config_last_reload_success_timestamp_seconds", role: ofReceive},
		{name: "thanos_receive_limits_config_reload_err_total", from: "hindsight_receive_limits_refused_total"},
		{
			name: "thanos_receive_metamonitoring_failed_queries_total", from: "hindsight_receive_meta_monitoring_queries_total",
			only: map[string]string{"result": "failure"},
		},
		{name: "thanos_receive_head_series_limit", from: "hindsight_receive_tenant_series_limit"},
	}
}

// downsampled maps the resolution of a result to that of its sources, which Thanos counts.
func downsampled() map[string]map[string]string {
	return map[string]map[string]string{"resolution": {"300000": "0", "3600000": "300000"}}
}
