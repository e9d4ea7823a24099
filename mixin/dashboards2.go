package main

func compactor() dashboard {
	return dashboard{
		uid: "hindsight-compactor", title: "Compactor", help: "Jobs of the compactor, their backlog, and blocks that need a person.",
		rows: []row{
			{"Passes", []panel{
				{"Passes", "", perSec, []query{
					{`sum (rate(hindsight_compact_passes_total{sel}[rate]))`, "started"},
					{`sum (rate(hindsight_compact_passes_failed_total{sel}[rate]))`, "failed"},
				}},
				{"Age of the last successful pass", "", age, one(orZero(`max by (instance) (time() - (hindsight_compact_last_successful_pass_timestamp_seconds{sel} > 0))`), "{{instance}}")},
				{"Duration of jobs", "", seconds, quantiles(`hindsight_compact_job_duration_seconds_bucket{sel}`, "kind")},
			}},
			{"Jobs", []panel{
				{"Backlog", "Jobs of the last plan.", count, one(`sum by (kind) (hindsight_compact_todo_jobs{sel})`, "{{kind}}")},
				{"Backlog in samples", "", count, one(`sum by (kind) (hindsight_compact_todo_samples{sel})`, "{{kind}}")},
				{"Time to work off the backlog", "Infinite while the backlog grows, nothing while that is unknown.", age, one(`max by (instance) (hindsight_compact_backlog_eta_seconds{sel})`, "{{instance}}")},
				{"Samples processed", "", perSec, one(orZero(`sum by (kind) (rate(hindsight_compact_samples_total{sel}[rate]))`), "{{kind}}")},
				{"Jobs completed", "", perSec, one(orZero(`sum by (kind) (rate(hindsight_compact_jobs_completed_total{sel}[rate]))`), "{{kind}}")},
				{"Jobs failed", "", perSec, one(orZero(`sum by (kind) (rate(hindsight_compact_jobs_failed_total{sel}[rate]))`), "{{kind}}")},
				{"Marks written", "", perSec, one(orZero(`sum by (marker) (rate(hindsight_compact_blocks_marked_total{sel}[rate]))`), "{{marker}}")},
			}},
			{"Blocks", []panel{
				{"Blocks in the bucket", "", count, one(`max by (job) (hindsight_blocklist_blocks{sel})`, "{{job}}")},
				{"Marked blocks", "", count, one(`max by (mark) (hindsight_blocklist_marked_blocks{sel})`, "{{mark}}")},
				{"Partial blocks", "", count, one(orZero(`max by (reason) (hindsight_blocklist_partial_blocks{sel})`), "{{reason}}")},
				{"Blocks that no job takes", "", count, []query{
					{orZero(`sum by (reason) (hindsight_compact_block_quarantined{sel})`), "quarantined {{reason}}"},
					{orZero(`sum by (reason) (hindsight_compact_blocks_skipped{sel})`), "skipped {{reason}}"},
				}},
				{"Failed listings of the bucket", "", perSec, one(`sum by (job) (rate(hindsight_blocklist_poll_failures_total{sel}[rate]))`, "{{job}}")},
				{"Time to list the bucket", "", seconds, quantiles(`hindsight_blocklist_poll_duration_seconds_bucket{sel}`, "job")},
			}},
		},
	}
}

func sidecars() dashboard {
	return dashboard{
		uid: "hindsight-sidecars", title: "Sidecars", help: "What each sidecar ships, how far it is behind, and where it reads from.",
		rows: []row{
			{"Prometheus", []panel{
				{"Prometheus answers", "", count, one(`min by (instance) (hindsight_sidecar_prometheus_up{sel})`, "{{instance}}")},
				{"Parts of requests by source", "", perSec, one(`sum by (from) (rate(hindsight_sidecar_reads_total{sel}[rate]))`, "{{from}}")},
				{"Answers of the API by source", "", perSec, one(orZero(`sum by (from) (rate(hindsight_sidecar_api_answers_total{sel}[rate]))`), "{{from}}")},
			}},
			{"Blocks", []panel{
				{"Blocks that wait for upload", "", count, one(`sum by (instance) (hindsight_shipper_pending_blocks{sel})`, "{{instance}}")},
				{"Unshipped since", "Age of the oldest sample of a block that should be in the bucket; 0 when there is none.", age, one(orZero(`max by (instance) (time() - (hindsight_shipper_unshipped_since_timestamp_seconds{sel} > 0))`), "{{instance}}")},
				{"Blocks that are not shipped", "", count, []query{
					{`sum by (instance) (hindsight_shipper_corrupted_blocks{sel})`, "{{instance}} corrupt"},
					{`sum by (instance) (hindsight_shipper_overlapping_blocks{sel})`, "{{instance}} overlapping"},
					{`sum by (instance) (hindsight_shipper_unshipped_compacted_blocks{sel})`, "{{instance}} compacted"},
				}},
			}},
			{"Head log", []panel{
				{"Behind", "Time for which the loss of the disk would lose samples.", age, one(`max by (instance) (time() - (hindsight_sidecar_head_last_ship_success_time_seconds{sel} > 0))`, "{{instance}}")},
				{"Shipped", "", bytesPS, one(`sum by (instance) (rate(hindsight_sidecar_head_shipped_bytes_total{sel}[rate]))`, "{{instance}}")},
				{"Failed passes", "", perSec, one(`sum by (instance) (rate(hindsight_sidecar_head_ship_failures_total{sel}[rate]))`, "{{instance}}")},
			}},
			{"Labels and safety", []panel{
				{"Sources with equal external labels", "", count, one(`max by (instance) (hindsight_sidecar_label_conflicts{sel})`, "{{instance}}")},
				{"Prometheus may compact before upload", "", count, one(`max by (instance) (hindsight_sidecar_unsafe_compaction{sel})`, "{{instance}}")},
				{"Passes with a failed upload", "", perSec, one(`sum by (instance) (rate(hindsight_sidecar_ship_failures_total{sel}[rate]))`, "{{instance}}")},
			}},
		},
	}
}

func tenants() dashboard {
	return dashboard{
		uid: "hindsight-tenants", title: "Tenants", help: "Writes of each tenant against its limits.", tenant: true,
		rows: []row{
			{"Writes", []panel{
				{"Items stored", "After replication.", perSec, one(`topk(20, sum by (tenant) (rate(hindsight_receive_stored_total{sel, tenant=~"$tenant"}[rate])))`, "{{tenant}}")},
				{"Items rejected", "", perSec, one(orZero(`sum by (tenant, reason) (rate(hindsight_receive_rejected_total{sel, tenant=~"$tenant"}[rate]))`), "{{tenant}} {{reason}}")},
				{"Labels renamed", "New series with a label called like an external label.", perSec, one(orZero(`sum by (tenant) (rate(hindsight_receive_renamed_labels_total{sel, tenant=~"$tenant"}[rate]))`), "{{tenant}}")},
			}},
			{"Series", []panel{
				{"Active series", "On all nodes, with replication.", count, one(`topk(20, sum by (tenant) (prometheus_tsdb_head_series{sel, tenant=~"$tenant"}))`, "{{tenant}}")},
				{"Share of the limit", "Of the fullest node; tenants without a limit are absent.", percent, one(orZero(`max by (tenant) (prometheus_tsdb_head_series{sel, tenant=~"$tenant"} / on (job, instance, tenant) (hindsight_receive_tenant_series_limit{sel} > 0))`), "{{tenant}}")},
				{"New series", "", perSec, one(`topk(20, sum by (tenant) (rate(prometheus_tsdb_head_series_created_total{sel, tenant=~"$tenant"}[rate])))`, "{{tenant}}")},
			}},
			{"Storage", []panel{
				{"Write-ahead log", "", bytesIn, one(`topk(20, sum by (tenant) (prometheus_tsdb_wal_storage_size_bytes{sel, tenant=~"$tenant"}))`, "{{tenant}}")},
				{"Local blocks", "", bytesIn, one(`topk(20, sum by (tenant) (prometheus_tsdb_storage_blocks_bytes{sel, tenant=~"$tenant"}))`, "{{tenant}}")},
				{"New tenants refused", "", perSec, one(`sum by (instance) (rate(hindsight_receive_rejected_tenants_total{sel}[rate]))`, "{{instance}}")},
			}},
		},
	}
}

func ring() dashboard {
	return dashboard{
		uid: "hindsight-ring", title: "Ring", help: "Deliveries between receive nodes, and hints for nodes that are away.",
		rows: []row{
			{"Deliveries", []panel{
				{"Deliveries by result", "", perSec, one(orZero(`sum by (result) (rate(hindsight_receive_forwards_total{sel}[rate]))`), "{{result}}")},
				{"Duration of a message to a peer", "", seconds, quantiles(`hindsight_receive_forward_duration_seconds_bucket{sel}`, "")},
				{"Waiting for a peer", "", bytesIn, one(orZero(`sum by (peer) (hindsight_receive_forward_waiting_bytes{sel})`), "{{peer}}")},
			}},
			{"Hints", []panel{
				{"Hints held", "", bytesIn, one(orZero(`sum by (peer) (hindsight_receive_hints_bytes{sel})`), "{{peer}}")},
				{"Hints replayed", "", perSec, one(orZero(`sum by (result) (rate(hindsight_receive_hints_replayed_total{sel}[rate]))`), "{{result}}")},
				{"Hints lost", "", count, []query{
					{orZero(`sum (increase(hindsight_receive_hints_failures_total{sel}[rate]))`), "not written"},
					{orZero(`sum (increase(hindsight_receive_hints_dropped_bytes_total{sel}[rate]))`), "bytes dropped"},
				}},
			}},
			{"Nodes", []panel{
				{"Samples received by node", "", perSec, one(`sum by (instance) (rate(hindsight_receive_samples_total{sel}[rate]))`, "{{instance}}")},
				{"Active series by node", "", count, one(`sum by (instance) (prometheus_tsdb_head_series{sel, tenant!=""})`, "{{instance}}")},
				{"Members", "Receivers that discovery finds: in the ring, or waiting to join it; and attempts to find them that failed. Only with --receive.members.", count, []query{
					{orZero(`sum by (instance, state) (hindsight_receive_members{sel})`), "{{instance}} {{state}}"},
					{orZero(`sum by (instance) (increase(hindsight_receive_member_discovery_failures_total{sel}[rate]))`), "{{instance}} failed"},
				}},
				{"Refused configurations", "New hashrings and limits that were refused.", count, []query{
					{`sum by (instance) (increase(hindsight_receive_hashring_refused_total{sel}[rate]))`, "{{instance}} hashring"},
					{`sum by (instance) (increase(hindsight_receive_limits_refused_total{sel}[rate]))`, "{{instance}} limits"},
				}},
			}},
		},
	}
}

func resources() dashboard {
	return dashboard{
		uid: "hindsight-resources", title: "Resources", help: "CPU, memory, file descriptors and servers of each process.",
		rows: []row{
			{"Process", []panel{
				{"CPU", "Cores in use.", count, one(`rate(process_cpu_seconds_total{sel}[rate]) and on (job, instance) hindsight_build_info`, "{{job}} {{instance}}")},
				{"Resident memory", "", bytesIn, one(`process_resident_memory_bytes{sel} and on (job, instance) hindsight_build_info`, "{{job}} {{instance}}")},
				{"Go heap in use", "", bytesIn, one(`go_memstats_heap_inuse_bytes{sel} and on (job, instance) hindsight_build_info`, "{{job}} {{instance}}")},
				{"Goroutines", "", count, one(`go_goroutines{sel} and on (job, instance) hindsight_build_info`, "{{job}} {{instance}}")},
				{"File descriptors", "Share of the limit.", percent, one(`process_open_fds{sel} / process_max_fds{sel} and on (job, instance) hindsight_build_info`, "{{job}} {{instance}}")},
				{"Pauses of the garbage collector", "Longest of the last ones.", seconds, one(`max by (job, instance) (go_gc_duration_seconds{sel}) and on (job, instance) hindsight_build_info`, "{{job}} {{instance}}")},
			}},
			{"Servers", []panel{
				{"HTTP requests", "", perSec, one(`sum by (job, code) (rate(http_requests_total{sel}[rate]) and on (job, instance) hindsight_build_info)`, "{{job}} {{code}}")},
				{"gRPC calls", "", perSec, one(`sum by (job, grpc_code) (rate(grpc_server_handled_total{sel}[rate]) and on (job, instance) hindsight_build_info)`, "{{job}} {{grpc_code}}")},
				{"Panics", "", count, one(`sum by (job) (increase(hindsight_grpc_server_panics_total{sel}[rate]))`, "{{job}}")},
			}},
		},
	}
}
