package main

func receiveAlerts() []alert {
	return append(writeAlerts(), []alert{
		{
			name: "HindsightReceiveHashringRefused", wait: "1m", severity: warning,
			expr:       `sum by (job, instance) (increase(hindsight_receive_hashring_refused_total[15m])) > 0`,
			summary:    "{{ $labels.instance }} refuses its hashring.",
			meaning:    "A new version of the hashring was refused, and the version before it is in use.",
			impact:     "Nodes may have different rings: series are forwarded once more than needed, and a new node gets none.",
			diagnosis:  []string{"Search the log for `hashring`: it says what is wrong."},
			mitigation: []string{"Mend the file; it is read again by itself."},
		},
		{
			name: "HindsightReceiveMembersNotFound", wait: "10m", severity: warning,
			expr:       `sum by (job, instance) (increase(hindsight_receive_member_discovery_failures_total[5m])) > 0`,
			summary:    "{{ $labels.instance }} cannot find the members of its hashring.",
			meaning:    "Attempts to find the members of the hashring by DNS or by the API of Kubernetes fail (`--receive.members`).",
			impact:     "The ring stays as it is: receivers that are new get no writes, and those that are gone keep their place.",
			diagnosis:  []string{"Search the log for `members of the hashring not found`: the error has the name or the address that was asked.", "Ask the same name from the same pod; for EndpointSlices, check that the service account may list them."},
			mitigation: []string{"Mend DNS, or the permissions of the service account, see [receive.md](../receive.md).", "If that lasts, give the ring as a file: `--receive.hashrings-file`."},
		},
		{
			name: "HindsightReceiveLimitsRefused", wait: "1m", severity: warning,
			expr:       `sum by (job, instance) (increase(hindsight_receive_limits_refused_total[15m])) > 0`,
			summary:    "{{ $labels.instance }} refuses its limits file.",
			meaning:    "A new version of the limits file was refused, and the version before it is in use.",
			impact:     "New limits have no effect, and a restart will fail.",
			diagnosis:  []string{"Search the log for `limits`: it says what is wrong."},
			mitigation: []string{"Mend the file; it is read again by itself."},
		},
		{
			name: "HindsightReceiveTenantsFailed", wait: "5m", severity: critical,
			expr:       `hindsight_receive_tenants_failed > 0`,
			summary:    "{{ $value }} tenants of {{ $labels.instance }} cannot be opened.",
			meaning:    "The storage of tenants cannot be opened on a node.",
			impact:     "The node stores and serves nothing of these tenants; its peers do while a quorum remains.",
			diagnosis:  []string{"Search the log for `tenant`: it has the name and the error, most often of the disk."},
			mitigation: []string{"Mend the disk and restart the node.", "If a directory is damaged beyond repair, move it away: the peers have its samples, and blocks in the bucket stay."},
		},
		{
			name: "HindsightReceiveTenantNearLimit", wait: "15m", severity: warning,
			expr:       `max by (job, tenant) (prometheus_tsdb_head_series / on (job, instance, tenant) (hindsight_receive_tenant_series_limit > 0)) > 0.9`,
			summary:    "Tenant {{ $labels.tenant }} has {{ $value | humanizePercentage }} of its active series.",
			meaning:    "A tenant has more than 90 % of the active series that its limit allows.",
			impact:     "Above the limit, new series of this tenant are refused.",
			diagnosis:  []string{"Look at the status page of the tenant's TSDB, `/api/v1/status/tsdb`, for the metrics and labels with the most series."},
			mitigation: []string{"Let the tenant drop labels by relabelling.", "Raise the limit in the limits file; it is read again by itself."},
		},
		{
			name: "HindsightReceiveTenantsRefused", wait: "1m", severity: warning,
			expr:       `sum by (job, instance) (increase(hindsight_receive_rejected_tenants_total[15m])) > 0`,
			summary:    "{{ $labels.instance }} refuses writes of new tenants.",
			meaning:    "Writes of new tenants are refused because the node is at its limit of tenants.",
			impact:     "These tenants cannot write.",
			diagnosis:  []string{"Check the names of tenants in the log: a sender may make a new name for each write."},
			mitigation: []string{"Mend the sender, or raise the limit of tenants, see [receive.md](../receive.md)."},
		},
		{
			name: "HindsightReceiveUploadFailures", wait: "30m", severity: warning,
			expr:       `sum by (job, instance) (rate(hindsight_receive_upload_failures_total[15m])) > 0`,
			summary:    "{{ $labels.instance }} fails to upload blocks.",
			meaning:    "Uploads of blocks of tenants fail and are repeated.",
			impact:     "Blocks stay on the local disk, and are not deleted before they are in the bucket.",
			diagnosis:  []string{"See [HindsightBucketErrors](HindsightBucketErrors.md).", "Search the log for `upload`."},
			mitigation: []string{"Mend the bucket; uploads continue by themselves.", "Watch the local disk until then."},
		},
	}...)
}

// writeAlerts are about the path of a write through the ring.
func writeAlerts() []alert {
	return []alert{
		{
			name: "HindsightReceiveWriteErrors", wait: "5m", severity: critical,
			expr:       `sum by (job) (rate(hindsight_receive_requests_total{code=~"5.."}[5m])) / sum by (job) (rate(hindsight_receive_requests_total[5m])) > 0.05`,
			summary:    "{{ $value | humanizePercentage }} of the writes to {{ $labels.job }} fail.",
			meaning:    "More than 5 % of the write requests end with a status of 5xx.",
			impact:     "Senders repeat these writes; samples are lost when their queues are full.",
			diagnosis:  []string{"Read the text of an answer in the log of a sender: it names the peers that failed.", "Count the nodes that are up: with replication 3, two of each set of three must accept a write."},
			mitigation: []string{"Start nodes that are down.", "Remove a node that is gone for good from the hashring."},
		},
		{
			name: "HindsightReceiveForwardFailures", wait: "5m", severity: warning,
			expr:       `sum by (job, result) (rate(hindsight_receive_forwards_total{result=~"unavailable|not_ready|other"}[5m])) > 0`,
			summary:    "Deliveries between nodes of {{ $labels.job }} fail ({{ $labels.result }}).",
			meaning:    "Deliveries of writes to peers fail.",
			impact:     "Missed writes wait as hints on the node that accepted them; a second failure may refuse writes.",
			diagnosis:  []string{"Look at the dashboard Ring: bytes that wait and hints, by peer.", "Look at the log of that peer."},
			mitigation: []string{"Start the peer, or mend the network between the nodes.", "Hints are replayed by themselves when the peer is back."},
		},
		{
			name: "HindsightReceiveHintsPending", wait: "30m", severity: warning,
			expr:       `sum by (job, peer) (hindsight_receive_hints_bytes) > 0`,
			summary:    "Hints of {{ $value | humanize1024 }}B wait for {{ $labels.peer }}.",
			meaning:    "Writes wait as hints for a peer that has been away for half an hour.",
			impact:     "The samples have a copy less than they should. When the hint log is full, the oldest hints are dropped.",
			diagnosis:  []string{"Check whether the peer runs and is reachable on its gRPC port."},
			mitigation: []string{"Start the peer.", "If it is gone for good, replace it in the hashring."},
		},
		{
			name: "HindsightReceiveHintsLost", wait: "1m", severity: critical,
			expr:       `sum by (job, instance) (increase(hindsight_receive_hints_failures_total[15m]) + increase(hindsight_receive_hints_dropped_bytes_total[15m])) > 0`,
			summary:    "{{ $labels.instance }} loses hints.",
			meaning:    "Hints could not be written, or were dropped because the hint log was full.",
			impact:     "Samples have a copy less for good until their block is compacted with those of the peers. No acknowledged sample is lost while a quorum keeps its disks.",
			diagnosis:  []string{"Check the free space of the disk, and compare `hindsight_receive_hints_bytes` with `--receive.hints.max-size`."},
			mitigation: []string{"Start the peer that is away.", "Give the disk more room, or raise `--receive.hints.max-size`."},
		},
		{
			name: "HindsightReceiveRejectedSamples", wait: "15m", severity: info,
			expr:       `sum by (job, tenant, reason) (rate(hindsight_receive_rejected_total[5m])) > 0`,
			summary:    "Samples of tenant {{ $labels.tenant }} are rejected: {{ $labels.reason }}.",
			meaning:    "Items of writes are rejected for good, because of their content or a limit.",
			impact:     "The tenant lacks these samples; its sender does not repeat them.",
			diagnosis:  []string{"Read `reason`; the answer to the sender has an example.", "Out-of-order samples point at two senders with equal series, or at a clock."},
			mitigation: []string{"Give senders different external labels.", "Allow out-of-order samples with `--tsdb.out-of-order.time-window`, or raise the limit of the tenant."},
		},
	}
}
