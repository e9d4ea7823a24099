package blockcolumns

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// Chunk is a chunk of floats. Its encoding is that of package columnchunk, or that of the
// chunk of the block where it could not be encoded so.
type Chunk struct {
	MinTime, MaxTime int64
	Encoding         chunkenc.Encoding
	Bytes            []byte
}

// The chunks of a series:
//
//	number of chunks <uvarint>
//	number × (mint − maxt of the one before <varint>, maxt − mint <uvarint>, encoding <u8>, bytes <uvarint>)
//	the bytes of the chunks | CRC32 (Castagnoli) of all that <u32>

// appendChunks appends the chunks of a series.
func appendChunks(b []byte, chunks []Chunk) []byte {
	start := len(b)
	b = binary.AppendUvarint(b, uint64(len(chunks)))
	before := int64(0)
	for _, c := range chunks {
		b = binary.AppendVarint(b, c.MinTime-before)
		b = binary.AppendUvarint(b, uint64(c.MaxTime-c.MinTime))
		b = binary.AppendUvarint(append(b, byte(c.Encoding)), uint64(len(c.Bytes)))
		before = c.MaxTime
	}
	for _, c := range chunks {
		b = append(b, c.Bytes...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

// isFloats says whether an encoding of a TSDB is one of floats.
func isFloats(enc chunkenc.Encoding) bool { return enc == chunkenc.EncXOR || enc == chunkenc.EncXOR2 }

// DecodeChunks appends the chunks of a series to out, at most 65,536. Their bytes are those of
// b; it does not decode them. On error out stays as it was.
func DecodeChunks(out []Chunk, b []byte) ([]Chunk, error) {
	body, err := checked(b)
	if err != nil {
		return out, err
	}
	d := decoder{b: body}
	first := len(out)
	var c Chunk
	var lengths uint64
	count := d.count()
	if count > maxChunks {
		return out, corrupt("a series of %d chunks", count)
	}
	for range count {
		c.MinTime = c.MaxTime + d.varint()
		c.MaxTime = c.MinTime + int64(d.uvarint())
		if enc := d.bytes(1); !d.bad {
			c.Encoding = chunkenc.Encoding(enc[0])
		}
		n := d.uvarint()
		if d.bad || n > uint64(len(body)) {
			return out[:first], corrupt("the chunks of a series end early")
		}
		if c.MaxTime < c.MinTime || c.Encoding != columnchunk.Encoding && !isFloats(c.Encoding) {
			return out[:first], corrupt("a chunk of encoding %d from %d to %d", c.Encoding, c.MinTime, c.MaxTime)
		}
		lengths += n
		c.Bytes = body[:n] // of that length; set below
		out = append(out, c)
	}
	if d.bad || lengths != uint64(len(d.b)) {
		return out[:first], corrupt("the chunks of a series have %d bytes instead of %d", len(d.b), lengths)
	}
	for i := first; i < len(out); i++ {
		out[i].Bytes = d.bytes(len(out[i].Bytes))
	}
	return out, nil
}
