package main

// dashboards returns all dashboards. Each query returns data when the roles of its
// dashboard run: a test asks them all.
func dashboards() []dashboard {
	return []dashboard{
		overview(), writes(), reads(), storage(), compactor(), sidecars(), tenants(), ring(), resources(),
	}
}

func overview() dashboard {
	return dashboard{
		uid: "hindsight-overview", title: "Overview", help: "Is everything up, and do reads, writes, uploads and compactions work?",
		rows: []row{
			{"Processes", []panel{
				{"Processes", "Processes that answer scrapes, by version.", count, one(`count by (job, version) (hindsight_build_info{sel})`, "{{job}} {{version}}")},
				{"Stores of queriers", "Stores that queriers expect, by health.", count, one(`sum by (component, health) (hindsight_query_endpoints{sel})`, "{{component}} {{health}}")},
				{"Configuration valid", "0 when the last reload was refused.", count, one(`min by (job, instance) (hindsight_config_last_reload_successful{sel})`, "{{job}} {{instance}}")},
			}},
			{"Reads", []panel{
				{"Queries", "", perSec, one(orZero(`sum by (handler, code) (rate(http_requests_total{sel, handler=~"query|query_range"}[rate]))`), "{{handler}} {{code}}")},
				{"Duration of queries", "", seconds, quantiles(`http_request_duration_seconds_bucket{sel, handler=~"query|query_range"}`, "handler")},
				{"Failed answers of stores", "", perSec, one(`sum by (instance) (rate(hindsight_fanout_store_failures_total{sel}[rate]))`, "{{instance}}")},
			}},
			{"Writes", []panel{
				{"Write requests", "", perSec, one(orZero(`sum by (code) (rate(hindsight_receive_requests_total{sel}[rate]))`), "{{code}}")},
				{"Duration of write requests", "", seconds, quantiles(`hindsight_receive_request_duration_seconds_bucket{sel}`, "")},
				{"Samples received", "", perSec, one(`sum (rate(hindsight_receive_samples_total{sel}[rate]))`, "samples")},
			}},
			{"Bucket", []panel{
				{"Operations", "", perSec, one(`sum by (operation) (rate(hindsight_objstore_operations_total{sel}[rate]))`, "{{operation}}")},
				{"Failed operations", "", perSec, one(`sum by (job, operation) (rate(hindsight_objstore_operation_failures_total{sel}[rate]))`, "{{job}} {{operation}}")},
				{"Jobs of the compactor", "", count, one(`sum by (kind) (hindsight_compact_todo_jobs{sel})`, "{{kind}}")},
			}},
		},
	}
}

func writes() dashboard {
	return dashboard{
		uid: "hindsight-writes", title: "Writes", help: "Remote write and OTLP, from the request to the head of a tenant.",
		rows: []row{
			{"Requests", []panel{
				{"Requests by status", "", perSec, one(orZero(`sum by (code) (rate(hindsight_receive_requests_total{sel}[rate]))`), "{{code}}")},
				{"Duration", "From the first byte of a request to its answer.", seconds, quantiles(`hindsight_receive_request_duration_seconds_bucket{sel}`, "")},
				{"Requests in flight", "", count, one(orZero(`sum by (instance) (http_inflight_requests{sel, handler="receive"})`), "{{instance}}")},
			}},
			{"Samples", []panel{
				{"Samples received", "Samples and histograms in write requests, before replication.", perSec, one(`sum by (instance) (rate(hindsight_receive_samples_total{sel}[rate]))`, "{{instance}}")},
				{"Items stored", "After replication.", perSec, one(orZero(`sum by (type) (rate(hindsight_receive_stored_total{sel}[rate]))`), "{{type}}")},
				{"Items rejected", "", perSec, one(orZero(`sum by (reason) (rate(hindsight_receive_rejected_total{sel}[rate]))`), "{{reason}}")},
			}},
			{"Head", []panel{
				{"Active series", "", count, one(`sum by (instance) (prometheus_tsdb_head_series{sel, tenant!=""})`, "{{instance}}")},
				{"New series", "", perSec, one(`sum by (instance) (rate(prometheus_tsdb_head_series_created_total{sel, tenant!=""}[rate]))`, "{{instance}}")},
				{"Write-ahead log", "", bytesIn, one(`sum by (instance) (prometheus_tsdb_wal_storage_size_bytes{sel, tenant!=""})`, "{{instance}}")},
				{"Pauses for compactions", "How long compactions of heads keep writes waiting.", seconds, quantiles(`hindsight_receive_compaction_pause_seconds_bucket{sel}`, "")},
				{"Tenants that could not be opened", "", count, one(`sum by (instance) (hindsight_receive_tenants_failed{sel})`, "{{instance}}")},
				{"Replay of logs", "1 when the node has read its logs after a start.", percent, one(`min by (instance) (hindsight_receive_replay_progress_ratio{sel})`, "{{instance}}")},
			}},
			{"Upload", []panel{
				{"Blocks uploaded", "", perSec, one(`sum by (job) (rate(hindsight_shipper_uploads_total{sel}[rate]))`, "{{job}}")},
				{"Blocks that wait", "", count, one(`sum by (instance) (hindsight_shipper_pending_blocks{sel})`, "{{instance}}")},
				{"Failed uploads", "", perSec, one(`sum by (instance) (rate(hindsight_receive_upload_failures_total{sel}[rate]))`, "{{instance}}")},
			}},
		},
	}
}

func reads() dashboard {
	return dashboard{
		uid: "hindsight-reads", title: "Reads", help: "Queries, from the HTTP API to the stores.",
		rows: []row{
			{"HTTP API", []panel{
				{"Requests by handler", "", perSec, one(orZero(`sum by (handler) (rate(http_requests_total{sel, handler!~"metrics|probe|pprof|other|receive"}[rate]))`), "{{handler}}")},
				{"Requests by status", "", perSec, one(orZero(`sum by (code) (rate(http_requests_total{sel, handler=~"query|query_range|series|label_names|label_values|exemplars|remote_read|federate"}[rate]))`), "{{code}}")},
				{"Duration of queries", "", seconds, quantiles(`http_request_duration_seconds_bucket{sel, handler=~"query|query_range"}`, "handler")},
			}},
			{"Evaluation", []panel{
				{"Expressions by evaluator", "", perSec, one(`sum by (evaluator) (rate(hindsight_query_evaluations_total{sel}[rate]))`, "{{evaluator}}")},
				{"Duration of evaluations", "Reading from the stores included.", seconds, quantiles(`hindsight_query_evaluation_duration_seconds_bucket{sel}`, "")},
				{"Running requests", "", count, one(`sum by (stage) (hindsight_query_running_requests{sel})`, "{{stage}}")},
				{"Waiting for a slot or for memory", "", count, []query{
					{`sum (hindsight_query_slots_waiting{sel})`, "slot"}, {`sum (hindsight_query_memory_waiting{sel})`, "memory"},
				}},
				{"Memory of requests", "", bytesIn, []query{
					{`sum by (instance) (hindsight_query_memory_used_bytes{sel})`, "{{instance}} used"},
					{`sum by (instance) (hindsight_query_memory_limit_bytes{sel})`, "{{instance}} limit"},
				}},
				{"Refused for a limit", "", perSec, one(`sum by (limit) (rate(hindsight_query_limit_rejections_total{sel}[rate]))`, "{{limit}}")},
			}},
			{"Stores", []panel{
				{"Stores by health", "", count, one(`sum by (component, health) (hindsight_query_endpoints{sel})`, "{{component}} {{health}}")},
				{"Failed answers", "", perSec, one(`sum by (instance) (rate(hindsight_fanout_store_failures_total{sel}[rate]))`, "{{instance}}")},
				{"Second tries", "Requests that went to a second member of an endpoint group.", perSec, one(`sum by (outcome) (rate(hindsight_query_hedged_requests_total{sel}[rate]))`, "{{outcome}}")},
				{"Calls to stores", "", perSec, one(`sum by (grpc_method, grpc_code) (rate(grpc_client_handled_total{sel}[rate]))`, "{{grpc_method}} {{grpc_code}}")},
				{"Duration of calls to stores", "", seconds, quantiles(`grpc_client_handling_seconds_bucket{sel}`, "grpc_method")},
				{"Stores found faulty", "Stores that were seen to send series out of order, or without the labels that they announce.", count, []query{
					{`sum (increase(hindsight_fanout_unsorted_stores_total{sel}[rate]))`, "out of order"},
					{`sum (increase(hindsight_fanout_mislabeled_stores_total{sel}[rate]))`, "labels"},
				}},
			}},
		},
	}
}

func storage() dashboard {
	return dashboard{
		uid: "hindsight-storage", title: "Store and object storage", help: "Store gateways, and the bucket as all roles see it.",
		rows: []row{
			{"Requests", []panel{
				{"Requests", "", perSec, one(orZero(`sum by (operation) (rate(hindsight_store_requests_total{sel}[rate]))`), "{{operation}}")},
				{"Blocks of a request", "", count, quantiles(`hindsight_store_request_blocks_bucket{sel}`, "")},
				{"Series of a request", "", count, quantiles(`hindsight_store_request_series_bucket{sel}`, "")},
				{"Wait for a slot", "", seconds, quantiles(`hindsight_store_gate_duration_seconds_bucket{sel}`, "")},
				{"Memory of requests", "", bytesIn, one(`sum by (instance) (hindsight_store_request_bytes{sel})`, "{{instance}}")},
				{"Refused for a limit", "", perSec, []query{
					{`sum (rate(hindsight_store_requests_limited_total{sel}[rate]))`, "limit"},
					{`sum (rate(hindsight_store_large_requests_refused_total{sel}[rate]))`, "large requests"},
				}},
			}},
			{"Blocks", []panel{
				{"Blocks served", "", count, one(`sum by (instance) (hindsight_store_blocks_loaded{sel})`, "{{instance}}")},
				{"Blocks not read", "Blocks whose index is damaged.", count, one(`sum by (instance) (hindsight_store_blocks_quarantined{sel})`, "{{instance}}")},
				{"Failed reads of blocks", "", perSec, one(orZero(`sum by (part, reason) (rate(hindsight_store_block_failures_total{sel}[rate]))`), "{{part}} {{reason}}")},
				{"Age of the view of the bucket", "", age, one(`max by (instance) (time() - (hindsight_store_last_sync_timestamp_seconds{sel} > 0))`, "{{instance}}")},
				{"Time to list the bucket", "", seconds, quantiles(`hindsight_store_sync_duration_seconds_bucket{sel}`, "")},
				{"Head logs to recover", "", count, one(orZero(`sum by (instance) (hindsight_store_heads_waiting{sel})`), "{{instance}}")},
			}},
			{"Cache", []panel{
				{"Hits", "Share of pages that were found in memory or on disk.", percent, one(`sum by (instance) (rate(hindsight_store_page_cache_hits_total{sel}[rate])) / sum by (instance) (rate(hindsight_store_page_cache_hits_total{sel}[rate]) + rate(hindsight_store_page_cache_misses_total{sel}[rate]))`, "{{instance}}")},
				{"Pages in memory", "", bytesIn, one(`sum by (instance) (hindsight_store_page_cache_bytes{sel})`, "{{instance}}")},
				{"Kept as columns", "Chunks written into the column cache. A rate that stays says that queries read more than it holds.", bytesPS, one(orZero(`sum by (instance) (rate(hindsight_store_column_cache_written_bytes_total{sel}[rate]))`), "{{instance}}")},
				{"Read from the bucket", "", bytesPS, one(`sum by (instance) (rate(hindsight_store_range_read_bytes_total{sel}[rate]))`, "{{instance}}")},
			}},
			{"Object storage, all roles", []panel{
				{"Operations", "", perSec, one(`sum by (job, operation) (rate(hindsight_objstore_operations_total{sel}[rate]))`, "{{job}} {{operation}}")},
				{"Failed operations", "After all tries.", perSec, one(`sum by (job, operation) (rate(hindsight_objstore_operation_failures_total{sel}[rate]))`, "{{job}} {{operation}}")},
				{"Duration", "", seconds, quantiles(`hindsight_objstore_operation_duration_seconds_bucket{sel}`, "operation")},
				{"Transferred", "", bytesPS, one(orZero(`sum by (job, operation) (rate(hindsight_objstore_transferred_bytes_total{sel}[rate]))`), "{{job}} {{operation}}")},
				{"Retries", "", perSec, one(orZero(`sum by (job) (rate(hindsight_objstore_retries_total{sel}[rate]))`), "{{job}}")},
				{"Age of the last upload", "", age, one(orZero(`max by (job, instance) (time() - (hindsight_objstore_last_successful_upload_timestamp_seconds{sel} > 0))`), "{{job}} {{instance}}")},
			}},
		},
	}
}
