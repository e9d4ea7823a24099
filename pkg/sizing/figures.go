package sizing

// Figures are what one unit costs, measured by the rows sizing-* of `make bench` unless
// another source is named. Bytes are those of the measured mix of values; Load.BytesPerSample
// replaces the figure that depends on it most.
type Figures struct {
	// ReceiveSeries is the memory of one series of a receiver whose head is about to become
	// a block, the garbage and the mapped chunks of the head included. ReceiveFixed is that
	// of a receiver without series.
	ReceiveSeries, ReceiveFixed float64
	// ReceiveCPU is the seconds of one core for a million samples.
	ReceiveCPU float64
	// LogSample are the bytes of a sample in the write-ahead log and in the chunks of the
	// head on disk.
	LogSample float64
	// ChunkSample are the bytes of a raw sample in the chunks of a block.
	ChunkSample float64
	// IndexSample are the bytes of the index for each sample, and IndexSeries for each series
	// of a block.
	IndexSample, IndexSeries float64
	// Window5m and Window1h are the bytes of one window of one series, chunks and index.
	Window5m, Window1h float64
	// HeaderSeries are the bytes of an index header for each series of its block.
	HeaderSeries float64
	// StoreBlock is the memory of a gateway for each block, StoreFixed without blocks.
	StoreBlock, StoreFixed float64
	// SidecarSeries is the memory of a sidecar for each series of its Prometheus, while it
	// ships the log and a block; SidecarFixed without series.
	SidecarSeries, SidecarFixed float64
	// QueryFixed is the peak of a querier over nine dashboard queries of 24 h (row
	// dashboard-memory-querier).
	QueryFixed float64
	// CompactFixed is the peak of a compactor that makes 5m and 1h data of 40 million samples
	// of 500 series.
	CompactFixed float64
	// MergeCPU is the seconds of one core for a million samples of one level of merging
	// (row compact-horizontal), ReplicaCPU of merging replicas (compact-vertical), and
	// DownsampleCPU of 5m and 1h data.
	MergeCPU, ReplicaCPU, DownsampleCPU float64
}

// Measured returns the figures of 2 virtual cores (AMD EPYC), Go 1.26, with series of eight
// labels and scrapes of 15 s.
func Measured() Figures {
	const kib, mib = 1 << 10, 1 << 20
	return Figures{
		ReceiveSeries: 3.1 * kib, ReceiveFixed: 103 * mib, ReceiveCPU: 1.6,
		LogSample: 11, ChunkSample: 2.4, IndexSample: 0.06, IndexSeries: 107,
		Window5m: 10.4, Window1h: 13.4, HeaderSeries: 0.9,
		StoreBlock: 11.4 * kib, StoreFixed: 69 * mib,
		SidecarSeries: 450, SidecarFixed: 90 * mib,
		QueryFixed: 196 * mib, CompactFixed: 121 * mib,
		MergeCPU: 0.013, ReplicaCPU: 0.026, DownsampleCPU: 0.037,
	}
}
