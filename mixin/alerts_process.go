package main

// processAlerts are about every role.
func processAlerts() []alert {
	return []alert{
		{
			name: "HindsightDown", wait: "5m", severity: critical,
			expr:       `up == 0 and on (job, instance) last_over_time(hindsight_build_info[6h])`,
			summary:    "{{ $labels.job }} {{ $labels.instance }} does not answer scrapes.",
			meaning:    "A process of Hindsight that answered within the last six hours does not answer scrapes.",
			impact:     "Depends on the role: a receive node or store less, no compactions, or no queries.",
			diagnosis:  []string{"Look at the state of the process or pod, and at the last lines of its log: it names the reason of its end, and ends with exit code 2 for wrong input.", "Check that Prometheus reaches the port of `--http-address`."},
			mitigation: []string{"Start the process again; every role continues where it stopped.", "Mend the flag or file that the log names.", "If it was killed for its memory, see [the limits of queries](../query.md) and give it more memory."},
		},
		{
			name: "HindsightConfigReloadFailed", wait: "5m", severity: warning,
			expr:       `hindsight_config_last_reload_successful == 0`,
			summary:    "{{ $labels.job }} {{ $labels.instance }} refuses its new configuration.",
			meaning:    "The last reload of the configuration was refused, and the version before it is in use.",
			impact:     "None yet; changes have no effect, and a restart will fail.",
			diagnosis:  []string{"Search the log for `reload`: the line names the file and what is wrong in it."},
			mitigation: []string{"Mend the file, and send SIGHUP or `POST /-/reload`."},
		},
		{
			name: "HindsightPanics", wait: "1m", severity: warning,
			expr:       `sum by (job, instance) (increase(hindsight_grpc_server_panics_total[15m])) > 0`,
			summary:    "{{ $labels.job }} {{ $labels.instance }} caught a panic.",
			meaning:    "A gRPC call ended in a panic, which the server caught.",
			impact:     "The call failed; other calls go on. A panic is a defect of the program.",
			diagnosis:  []string{"Search the log for `panic in gRPC handler`: it has the method and the stack."},
			mitigation: []string{"Report it with the stack.", "Until it is mended, keep the request away that causes it."},
		},
		{
			name: "HindsightHTTPErrors", wait: "5m", severity: critical,
			expr:       `sum by (job, handler) (rate(http_requests_total{code=~"5..", handler=~"query|query_range|receive|otlp|series|label_names|label_values"}[5m]) and on (job, instance) hindsight_build_info) / sum by (job, handler) (rate(http_requests_total{handler=~"query|query_range|receive|otlp|series|label_names|label_values"}[5m]) and on (job, instance) hindsight_build_info) > 0.05`,
			summary:    "{{ $value | humanizePercentage }} of the requests to {{ $labels.handler }} of {{ $labels.job }} fail.",
			meaning:    "More than 5 % of the requests to a handler end with a status of 5xx.",
			impact:     "Queries fail, or writes are not accepted; senders repeat writes, so that nothing is lost while their queues last.",
			diagnosis:  []string{"Read the text of an answer: it names what failed and which limit or store is concerned.", "For writes, see [HindsightReceiveForwardFailures](HindsightReceiveForwardFailures.md); for queries, [HindsightStoreMissing](HindsightStoreMissing.md) and [HindsightQueryLimitRejections](HindsightQueryLimitRejections.md).", "Set `--log.level=debug` on one process to see each failed request."},
			mitigation: []string{"Start the stores or receive nodes that are down.", "Let queries return partial answers: `partial_response=true`."},
		},
		{
			name: "HindsightGRPCErrors", wait: "5m", severity: warning,
			expr:       `sum by (job, grpc_method) (rate(grpc_server_handled_total{grpc_code=~"Unknown|Internal|Unavailable|DataLoss|DeadlineExceeded"}[5m]) and on (job, instance) hindsight_build_info) / sum by (job, grpc_method) (rate(grpc_server_handled_total[5m]) and on (job, instance) hindsight_build_info) > 0.05`,
			summary:    "{{ $value | humanizePercentage }} of the calls of {{ $labels.grpc_method }} of {{ $labels.job }} fail.",
			meaning:    "More than 5 % of the gRPC calls to a role fail, those that exceed a limit not counted.",
			impact:     "Queries lack data, which their warnings say, or deliveries between receive nodes fail and become hints.",
			diagnosis:  []string{"Look at the log of the process at level `warn`.", "If it serves blocks, look at [HindsightBucketErrors](HindsightBucketErrors.md); if it is a sidecar, at [HindsightSidecarPrometheusDown](HindsightSidecarPrometheusDown.md)."},
			mitigation: []string{"Mend what the role reads from: the bucket, Prometheus or the disk."},
		},
		{
			name: "HindsightBucketErrors", wait: "10m", severity: critical,
			expr:       `sum by (job, operation) (rate(hindsight_objstore_operation_failures_total[5m])) / sum by (job, operation) (rate(hindsight_objstore_operations_total[5m])) > 0.05`,
			summary:    "{{ $value | humanizePercentage }} of the operations {{ $labels.operation }} of {{ $labels.job }} on the bucket fail.",
			meaning:    "More than 5 % of the operations of one kind on the bucket fail, after all retries.",
			impact:     "Uploads, compactions or reads of old data fail. No data is lost while local disks have room.",
			diagnosis:  []string{"Search the log for the operation: the error has the answer of the object storage.", "Run `hindsight tools bucket ls` with the same configuration from the same place."},
			mitigation: []string{"For refused credentials, replace them in the configuration file; it is read again when the bucket refuses the ones in use.", "For limits of requests, lower `--compact.concurrency` or ask for higher limits.", "Keep disks of sidecars and receive nodes large enough until the bucket works again."},
		},
		{
			name: "HindsightBucketSlow", wait: "10m", severity: warning,
			expr:       `histogram_quantile(0.99, sum by (job, operation, le) (rate(hindsight_objstore_operation_duration_seconds_bucket{operation=~"get_range|stat|list"}[5m]))) > 5`,
			summary:    "One of a hundred operations {{ $labels.operation }} of {{ $labels.job }} takes {{ $value | humanizeDuration }}.",
			meaning:    "The 99th percentile of small operations on the bucket is above five seconds.",
			impact:     "Queries of old data are slow.",
			diagnosis:  []string{"Compare it with the figures of the object storage itself, and with retries in `hindsight_objstore_retries_total`."},
			mitigation: []string{"Give store gateways more memory for pages (`--index-cache-size`, see [store.md](../store.md)).", "Move the bucket nearer, or choose a faster class of storage."},
		},
	}
}
