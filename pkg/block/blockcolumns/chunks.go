package blockcolumns

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
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

// DecodeChunks appends the chunks of a series to out. Their bytes are those of b.
func DecodeChunks(out []Chunk, b []byte) ([]Chunk, error) {
	body, err := checked(b)
	if err != nil {
		return out, err
	}
	d := decoder{b: body}
	first := len(out)
	var c Chunk
	var lengths uint64
	for range d.count() {
		c.MinTime = c.MaxTime + d.varint()
		c.MaxTime = c.MinTime + int64(d.uvarint())
		if enc := d.bytes(1); !d.bad {
			c.Encoding = chunkenc.Encoding(enc[0])
		}
		n := d.uvarint()
		if d.bad || n > uint64(len(body)) || c.MaxTime < c.MinTime {
			return out[:first], corrupt("the chunks of a series end early")
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
