package walrepair

import (
	"slices"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/util/compression"
)

// The log of out-of-order samples ("wbl") has markers: the out-of-order samples of
// a series so far are in the chunk at a place of chunks_head. When the log is
// replayed, the TSDB drops the samples before a marker if its place is before the
// end of chunks_head, without a look at the chunk. After a kill the chunk may be
// missing, as chunks are written with delay, and what the next process writes
// behind it makes its place one before the end: a second kill then loses
// out-of-order samples for good. Without markers all samples of the log are
// replayed. Their chunks are taken out of chunks_head, see headChunks, and
// docs/decisions/0002-late-samples-after-a-kill.md.

// withoutMarkers returns the records that are not markers. Records that cannot be
// decoded are dropped and counted.
func withoutMarkers(records []walRecord) (kept []walRecord, damaged int) {
	buf := compression.NewSyncDecodeBuffer()
	for _, r := range records {
		plain, err := r.plain(buf)
		switch {
		case err != nil || len(plain) == 0:
			damaged++
		case record.Type(plain[0]) != record.MmapMarkers:
			kept = append(kept, r)
		}
	}
	return kept, damaged
}

// Compressions of records, as bits of the first byte of each fragment.
const (
	walSnappy = 1 << 3
	walZstd   = 1 << 4
)

// plain returns the content of a record. It is valid until the next call with buf.
func (r *walRecord) plain(buf compression.DecodeBuffer) ([]byte, error) {
	whole := slices.Concat(r.parts...)
	switch r.compression {
	case walSnappy:
		return compression.Decode(compression.Snappy, whole, buf)
	case walZstd:
		return compression.Decode(compression.Zstd, whole, buf)
	}
	return whole, nil
}
