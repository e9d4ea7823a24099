package main

// row is one line of the table: a benchmark, its figure, and its limit.
type row struct {
	name   string
	what   string
	pkg    string
	bench  string // regular expression for go test -bench
	times  string // -benchtime; empty is Go's default
	unit   string // the metric that is compared with target
	target float64
	limit  string // what the figure is a ratio to, or a count of
}

// rows are the lines of the table in their order. Rows of one package and benchmark
// share a run.
func rows() []row {
	const (
		receive    = "./pkg/receive/bench"
		dashboards = "./test/dashboards"
		sizing     = "./test/sizing"
		sidecar    = "./pkg/sidecar"
		headship   = "./pkg/sidecar/headship"
		all        = "^BenchmarkDashboards$"
		prometheus = "CPU of a Prometheus with one replica on its disk"
	)
	return []row{
		{"receive", "remote write 1.0, one node over HTTP, WAL on", receive, "^BenchmarkIngestOneNode$", "", "ratio-to-bare", 4,
			"CPU of a bare TSDB append with references"},
		{"receive-v2", "the same with remote write 2.0", receive, "^BenchmarkIngestVersion2$", "", "ratio-to-bare", 4,
			"CPU of a bare TSDB append with references"},
		{"receive-ring", "remote write 1.0 over three nodes, replication 3, all nodes", receive, "^BenchmarkIngestThreeNodes$", "", "ratio-to-3-bare", 5,
			"3 x CPU of a bare TSDB append"},
		{"receive-ring-allocs", "the same, allocations of all nodes for a sample, one for each series of a request", receive, "^BenchmarkIngestThreeNodes$", "",
			"allocs/sample-beyond-bare", 0.1, "allocations beyond those of the bare append"},
		{"receive-memory", "memory of an active series at 1M series", receive, "^BenchmarkMemory$", "1x", "RSS-KiB/series", 1.8, "KiB of RSS"},
		{"storeapi", "one series of 12 labels through gRPC server and client", "./pkg/storeapi/storerpc", "^BenchmarkStream$/^batch=64$", "", "ns/op", 1000, "ns"},
		{"storeapi-allocs", "the same, allocations", "./pkg/storeapi/storerpc", "^BenchmarkStream$/^batch=64$", "", "allocs/op", 2, "allocations"},
		{"storeapi-memory", "1M series streamed through a fan-out", "./pkg/storeapi/fanout", "^BenchmarkStreamMillion$", "1x", "peak-heap-MiB", 100, "MiB of heap"},
		{"query", "sum by (rate), 24 h, 4,000 series x 2 replicas, through gRPC and dedup", "./pkg/query", "^BenchmarkGlobalQuery$/^own$", "3x", "ratio", 0.25,
			"CPU of Prometheus's engine on one local replica"},
		{"query-engine", "the same, evaluated by Prometheus's engine", "./pkg/query", "^BenchmarkGlobalQuery$/^prometheus-engine$", "3x", "ratio", 1,
			"CPU of Prometheus's engine on one local replica"},
		{"dashboard-rate", "sum by (service,cluster)(rate), 24 h of 48 blocks on S3, 4,000 series x 2 replicas, real processes, warm", dashboards, all, "1x", "rate-ratio", 0.25, prometheus},
		{"dashboard-cpu", "sum by (instance)(rate) of node_cpu_seconds_total, 24 h", dashboards, all, "1x", "cpu-ratio", 0.25, prometheus},
		{"dashboard-quantile", "histogram_quantile over 12,000 classic buckets, 6 h", dashboards, all, "1x", "quantile-ratio", 0.35, prometheus},
		{"instant-rate", "instant sum by (rate) over 4,000 series", dashboards, all, "1x", "instant-rate-ratio", 1.2, prometheus},
		{"instant-select", "instant count over 4,000 series", dashboards, all, "1x", "instant-select-ratio", 1.2, prometheus},
		{"instant-quantile", "instant histogram_quantile over 12,000 series", dashboards, all, "1x", "instant-quantile-ratio", 1.2, prometheus},
		{"scattered-warm", "16 series scattered over their metric, 24 h of 48 blocks", dashboards, all, "1x", "warm-ms", 30, "ms"},
		{"scattered-gets", "the same, nothing cached", dashboards, all, "1x", "cold-GETs/block", 4, "GETs for each block"},
		{"scattered-bytes", "the same", dashboards, all, "1x", "cold-bytes/used", 3, "bytes for each byte of chunks that is used"},
		{"scattered-heads", "the same", dashboards, all, "1x", "cold-HEADs", 0, "HEADs"},
		{"dashboard-memory-querier", "peak memory over a list of nine heavy queries", dashboards, all, "1x", "querier-peak-MiB", 250, "MiB of RSS"},
		{"dashboard-memory-gateway", "the same", dashboards, all, "1x", "gateway-peak-MiB", 300, "MiB of RSS"},
		{"bucket-view", "view of 10,000 known blocks with 10 new ones", "./pkg/block/blocklist", "^BenchmarkPoll$/blocks/^ten-new$", "", "GETs/op", 10, "GETs beside the listing"},
		{"store-gets", "GETs of the index for a cold selector, for each block", "./pkg/store", "^BenchmarkSelect$/metric/cold", "", "indexGETs/block", 3, "GETs"},
		{"sidecar-day", "24 h of 2,000 series, eleven blocks and the head, CPU of Prometheus and sidecar", sidecar, "^BenchmarkSelectDay$", "5x", "cpu-ratio", 0.5,
			"the same through remote read alone"},
		{"sidecar-instant", "latency that the sidecar and gRPC add to reading 5 min of 1,000 series", sidecar, "^BenchmarkInstant$", "", "added-ms", 5,
			"ms beyond remote read from Prometheus"},
		{"sidecar-memory", "1M series streamed, with the server and the client in one process", sidecar, "^BenchmarkStreamMillion$", "1x", "RSS-MiB", 150, "MiB of RSS"},
		{"sidecar-head", "shipping the log of 100,000 samples a second, snappy", headship, "^BenchmarkShip$/^snappy$", "3x", "cpu-%", 2,
			"percent of the CPU of appending the samples to a bare TSDB"},
		{"sidecar-head-bytes", "the same", headship, "^BenchmarkShip$/^snappy$", "3x", "shipped/log", 1.3, "bytes of the compressed log"},
		{"compact-vertical", "merging two jittered replicas", "./pkg/compact", "^BenchmarkVertical$", "", "cpu-s/Msample", 0.04, "CPU seconds for a million samples, download and upload included"},
		{"compact-vertical-bytes", "the same, bytes read and written", "./pkg/compact", "^BenchmarkVertical$", "", "bytes/input-byte", 2.2, "bytes for a byte of input"},
		{"compact-horizontal", "merging blocks that do not overlap", "./pkg/compact", "^BenchmarkHorizontal$", "", "cpu-s/Msample", 0.01, "CPU seconds for a million samples, download and upload included"},
		{"compact-horizontal-kernel", "the same, time in the kernel", "./pkg/compact", "^BenchmarkHorizontal$", "", "kernel-share", 0.34, "share of the CPU seconds"},
		{"compact-horizontal-bytes", "the same, bytes read and written", "./pkg/compact", "^BenchmarkHorizontal$", "", "bytes/input-byte", 2.2, "bytes for a byte of input"},
		{"compact-memory", "merging blocks of 140,000 series", "./pkg/compact", "^BenchmarkMergeLarge$", "1x", "peak-heap-MiB", 300, "MiB of heap with garbage"},
		{"sizing-receive-memory", "memory of a series of a receiver with a head of almost 3 h, 45,000 series against 15,000", sizing, "^BenchmarkReceive$", "1x", "RSS-bytes/series", 4500, "bytes of RSS"},
		{"sizing-receive-cpu", "the same, CPU for a million samples", sizing, "^BenchmarkReceive$", "1x", "cpu-s/Msample", 2, "CPU seconds for a million samples"},
		{"sizing-log", "the same, write-ahead log", sizing, "^BenchmarkReceive$", "1x", "log-bytes/sample", 10, "bytes of a sample"},
		{"sizing-block-chunks", "the same, chunks of the blocks in the bucket", sizing, "^BenchmarkReceive$", "1x", "block-chunk-bytes/sample", 2.5, "bytes of a sample"},
		{"sizing-block-index", "the same, index of blocks of two hours", sizing, "^BenchmarkReceive$", "1x", "block-index-bytes/series", 120, "bytes of a series"},
		{"sizing-header", "index headers of these blocks on the disk of a gateway", sizing, "^BenchmarkReceive$", "1x", "index-header-bytes/series", 1, "bytes of a series"},
		{"sizing-bucket-raw", "a raw block of 14 d", sizing, "^BenchmarkBucket$", "1x", "raw-chunk-bytes/sample", 2.5, "bytes of a sample in chunks"},
		{"sizing-bucket-5m", "its 5m data", sizing, "^BenchmarkBucket$", "1x", "5m0s-chunk-bytes/window", 11, "bytes of a window in chunks"},
		{"sizing-bucket-1h", "its 1h data", sizing, "^BenchmarkBucket$", "1x", "1h0m0s-chunk-bytes/window", 14, "bytes of a window in chunks"},
		{"sizing-compact-memory", "the compactor that makes it, peak", sizing, "^BenchmarkBucket$", "1x", "peak-MiB", 200, "MiB of RSS"},
		{"sizing-store-block", "memory of a gateway for each of 2,000 blocks", sizing, "^BenchmarkGatewayBlocks$", "1x", "RSS-bytes/block", 16_000, "bytes of RSS"},
		{"sizing-sidecar", "memory of a series of a sidecar that ships a log and a block, 200,000 series against 20,000", sizing, "^BenchmarkSidecar$", "1x", "peak-RSS-bytes/series", 600, "bytes of RSS"},
		{"downsample", "raw to 5m", "./pkg/compact", "^BenchmarkDownsample$", "", "cpu-s/Msample", 0.025, "CPU seconds for a million samples (40M a second is 0.025)"},
	}
}
