package storerpc

import "github.com/hindsight-io/hindsight/pkg/protoscan"

// plainChunk reads an AggrChunk in the one form that raw chunks of floats have: both
// times, then the data without a type, which is XOR, and without a hash. ok is false
// for every other form, which addAnyChunk reads, be it correct or not.
func plainChunk(b []byte) (mint, maxt int64, data []byte, ok bool) {
	if len(b) == 0 || b[0] != tagMinTime {
		return 0, 0, nil, false
	}
	first, i := protoscan.Uvarint(b, 1)
	if i < 0 || i >= len(b) || b[i] != tagMaxTime {
		return 0, 0, nil, false
	}
	last, i := protoscan.Uvarint(b, i+1)
	if i < 0 || i >= len(b) || b[i] != tagRaw {
		return 0, 0, nil, false
	}
	start, end := protoscan.Delimited(b, i+1)
	if end != len(b) || start == end || b[start] != tagChunkData {
		return 0, 0, nil, false
	}
	start, end = protoscan.Delimited(b, start+1)
	if end != len(b) {
		return 0, 0, nil, false
	}
	return int64(first), int64(last), b[start:end:end], true
}
