package columncache

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Page is a page of a chunk segment. Chunks belong to the page in which they begin.
type Page struct {
	Block  ulid.ULID
	File   uint32
	Number uint32
}

// Chunk is a chunk of a page.
type Chunk struct {
	// At is where the chunk begins in the page.
	At uint16
	// Encoding is columnchunk.Encoding, or that of a chunk that could not be encoded so.
	Encoding chunkenc.Encoding
	Bytes    []byte
}

// An entry of the file, with integers in little-endian order:
//
//	CRC32 (Castagnoli) of all that follows but the padding <u32> | length without padding <u32>
//	ULID of the block <16b> | file <u32> | page <u32>
//	number of chunks <u16> | for each, in ascending order: begin <u16>, length <u16>, encoding <u8>
//	bytes of the chunks | padding to a multiple of unit
const (
	entryHead  = 4 + 4 + 16 + 4 + 4 + 2
	entryChunk = 2 + 2 + 1
	// unit is what positions in the file are multiples of.
	unit = 64
	// maxEntry bounds an entry, maxChunk the bytes of a chunk in it.
	maxEntry = 1 << 16
	maxChunk = 1<<16 - 1
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// appendEntry appends the entry of a page to b. It returns b as it was if the chunks, which
// are in ascending order, do not fit.
func appendEntry(b []byte, p Page, chunks []Chunk) []byte {
	size := entryHead + len(chunks)*entryChunk
	for _, c := range chunks {
		if len(c.Bytes) > maxChunk {
			return b
		}
		size += len(c.Bytes)
	}
	if size > maxEntry || len(chunks) == 0 {
		return b
	}
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = append(b, p.Block[:]...)
	b = binary.LittleEndian.AppendUint32(b, p.File)
	b = binary.LittleEndian.AppendUint32(b, p.Number)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(chunks)))
	for _, c := range chunks {
		b = binary.LittleEndian.AppendUint16(b, c.At)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Bytes)))
		b = append(b, byte(c.Encoding))
	}
	for _, c := range chunks {
		b = append(b, c.Bytes...)
	}
	binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli()))
	for (len(b)-start)%unit != 0 {
		b = append(b, 0)
	}
	return b
}

// Entry are the chunks of a page. The zero value has none.
type Entry struct {
	table, data []byte
	// next is the number of the chunk that Find looks at first, and from where its bytes begin.
	next, from int
}

// parse returns the entry of p in b, which begins there; false if b has something else.
func parse(b []byte, p Page) (Entry, bool) {
	if len(b) < entryHead {
		return Entry{}, false
	}
	size, n := int(binary.LittleEndian.Uint32(b[4:])), int(binary.LittleEndian.Uint16(b[entryHead-2:]))
	if size > len(b) || entryHead+n*entryChunk > size || ulid.ULID(b[8:24]) != p.Block ||
		binary.LittleEndian.Uint32(b[24:]) != p.File || binary.LittleEndian.Uint32(b[28:]) != p.Number ||
		crc32.Checksum(b[4:size], castagnoli()) != binary.LittleEndian.Uint32(b) {
		return Entry{}, false
	}
	return Entry{table: b[entryHead : entryHead+n*entryChunk], data: b[entryHead+n*entryChunk : size]}, true
}

// Find returns the chunk that begins at the position. Calls are in ascending order.
func (e *Entry) Find(at uint16) (Chunk, bool) {
	for c, ok := e.current(); ok; c, ok = e.current() {
		if c.At >= at {
			return c, c.At == at
		}
		e.next, e.from = e.next+1, e.from+len(c.Bytes)
	}
	return Chunk{}, false
}

// current is the chunk with the number next.
func (e *Entry) current() (Chunk, bool) {
	if e.next*entryChunk >= len(e.table) {
		return Chunk{}, false
	}
	row := e.table[e.next*entryChunk:]
	size := int(binary.LittleEndian.Uint16(row[2:]))
	if e.from+size > len(e.data) {
		return Chunk{}, false
	}
	return Chunk{At: binary.LittleEndian.Uint16(row), Encoding: chunkenc.Encoding(row[4]), Bytes: e.data[e.from : e.from+size : e.from+size]}, true
}

// All returns all chunks.
func (e *Entry) All() []Chunk {
	all := Entry{table: e.table, data: e.data}
	var out []Chunk
	for c, ok := all.current(); ok; c, ok = all.current() {
		out = append(out, c)
		all.next, all.from = all.next+1, all.from+len(c.Bytes)
	}
	return out
}
