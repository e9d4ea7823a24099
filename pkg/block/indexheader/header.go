package indexheader

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sort"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// ErrCorrupt says that the bytes of an index, or of a header file, contradict
// their format or their checksums; test with errors.Is.
var ErrCorrupt = errorid.Sentinel(errorid.BlockCorrupt, "corrupt index")

const (
	magic      = "HSIH"
	version    = 1
	prefixSize = 88
	nameSize   = 12
	entrySize  = 16
	crcSize    = 4
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Header is the header of one block's index. It is immutable and may be used
// concurrently. All strings that it returns are views of its memory: they must
// not be used after Close.
type Header struct {
	b     []byte
	close func() error

	indexSize              int64
	seriesStart, seriesEnd int64
	all                    Postings
	symbolCount, nameCount uint32
	entryCount             uint32

	symbolEnds, names, entries, symbols []byte
}

// Postings is the byte range of one postings list in the index: its length
// field, count, references, checksum and perhaps padding.
type Postings struct {
	Offset, Length int64
}

// Count is the largest number of series that the list may have.
func (p Postings) Count() int64 { return max(0, (p.Length-12)/4) }

// Parse is for headers that another process has made. ErrCorrupt means that the bytes are
// damaged.
func Parse(b []byte) (*Header, error) { return parse(b) }

// Bytes are the header in its file format. They must not be changed.
func (h *Header) Bytes() []byte { return h.b }

// parse makes a header of bytes in the header format; it checks the checksum
// and that everything that the header refers to is inside it. The header keeps b.
func parse(b []byte) (*Header, error) {
	if len(b) < prefixSize+crcSize {
		return nil, fmt.Errorf("%w: header of %d bytes is too short", ErrCorrupt, len(b))
	}
	if string(b[:4]) != magic {
		return nil, fmt.Errorf("%w: header does not begin with its magic", ErrCorrupt)
	}
	if b[4] != version {
		return nil, fmt.Errorf("%w: header has unknown version %d", ErrCorrupt, b[4])
	}
	body, sum := b[:len(b)-crcSize], binary.LittleEndian.Uint32(b[len(b)-crcSize:])
	if crc32.Checksum(body, castagnoli()) != sum {
		return nil, fmt.Errorf("%w: header has a wrong checksum", ErrCorrupt)
	}
	h := &Header{
		b:           b,
		indexSize:   int64(binary.LittleEndian.Uint64(b[8:])),
		seriesStart: int64(binary.LittleEndian.Uint64(b[16:])),
		seriesEnd:   int64(binary.LittleEndian.Uint64(b[24:])),
		all: Postings{
			Offset: int64(binary.LittleEndian.Uint64(b[32:])),
			Length: int64(binary.LittleEndian.Uint64(b[40:])),
		},
		symbolCount: binary.LittleEndian.Uint32(b[48:]),
		nameCount:   binary.LittleEndian.Uint32(b[52:]),
		entryCount:  binary.LittleEndian.Uint32(b[56:]),
	}
	symbolBytes := binary.LittleEndian.Uint64(b[64:])
	rest := body[prefixSize:]
	want := uint64(h.symbolCount)*4 + uint64(h.nameCount)*nameSize + uint64(h.entryCount)*entrySize
	if symbolBytes > uint64(len(rest)) || want+symbolBytes != uint64(len(rest)) {
		return nil, fmt.Errorf("%w: header sections do not add up to its length", ErrCorrupt)
	}
	h.symbolEnds, rest = cut(rest, uint64(h.symbolCount)*4)
	h.names, rest = cut(rest, uint64(h.nameCount)*nameSize)
	h.entries, h.symbols = cut(rest, uint64(h.entryCount)*entrySize)
	return h, h.check()
}

func cut(b []byte, n uint64) (head, rest []byte) { return b[:n], b[n:] }

// check makes sure that no later access can leave the header or the index.
func (h *Header) check() error {
	end := uint32(0)
	for i := uint32(0); i < h.symbolCount; i++ {
		e := binary.LittleEndian.Uint32(h.symbolEnds[i*4:])
		if e < end || uint64(e) > uint64(len(h.symbols)) {
			return fmt.Errorf("%w: header symbol %d is out of bounds", ErrCorrupt, i)
		}
		end = e
	}
	next := uint64(0)
	for i := uint32(0); i < h.nameCount; i++ {
		sym, first, count := h.name(i)
		if sym >= h.symbolCount || uint64(first) != next {
			return fmt.Errorf("%w: header label name %d is out of bounds", ErrCorrupt, i)
		}
		next += uint64(count)
	}
	if next != uint64(h.entryCount) {
		return fmt.Errorf("%w: header label names do not cover its values", ErrCorrupt)
	}
	for i := uint32(0); i < h.entryCount; i++ {
		sym, p := h.entry(i)
		if sym >= h.symbolCount || !h.inside(p) {
			return fmt.Errorf("%w: header label value %d is out of bounds", ErrCorrupt, i)
		}
	}
	if h.seriesStart < 0 || h.seriesEnd < h.seriesStart || h.seriesEnd > h.indexSize || !h.inside(h.all) {
		return fmt.Errorf("%w: header series section is out of bounds", ErrCorrupt)
	}
	return nil
}

func (h *Header) inside(p Postings) bool {
	return p.Offset >= 0 && p.Length >= 0 && p.Offset <= h.indexSize && p.Length <= h.indexSize-p.Offset
}

func (h *Header) name(i uint32) (sym, first, count uint32) {
	b := h.names[i*nameSize:]
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
}

func (h *Header) entry(i uint32) (sym uint32, p Postings) {
	b := h.entries[uint64(i)*entrySize:]
	return binary.LittleEndian.Uint32(b), Postings{
		Length: int64(binary.LittleEndian.Uint32(b[4:])),
		Offset: int64(binary.LittleEndian.Uint64(b[8:])),
	}
}

// symbol returns a string that is known to exist.
func (h *Header) symbol(i uint32) string {
	start := uint32(0)
	if i > 0 {
		start = binary.LittleEndian.Uint32(h.symbolEnds[(i-1)*4:])
	}
	b := h.symbols[start:binary.LittleEndian.Uint32(h.symbolEnds[i*4:])]
	return zerocopy.String(b)
}

// Symbol returns the string that a series entry refers to. Symbols are in
// ascending order.
func (h *Header) Symbol(i uint32) (string, error) {
	if i >= h.symbolCount {
		return "", fmt.Errorf("%w: symbol %d of %d", ErrCorrupt, i, h.symbolCount)
	}
	return h.symbol(i), nil
}

// IndexSize is the size in bytes of the index that the header describes.
func (h *Header) IndexSize() int64 { return h.indexSize }

// Size is the number of bytes of the header.
func (h *Header) Size() int64 { return int64(len(h.b)) }

// Series returns the byte range [start, end) of the index that holds the series.
func (h *Header) Series() (start, end int64) { return h.seriesStart, h.seriesEnd }

// AllPostings is the list of all series of the block.
func (h *Header) AllPostings() Postings { return h.all }

// LabelNames returns the sorted label names; the strings are copies.
func (h *Header) LabelNames() []string {
	out := make([]string, h.nameCount)
	for i := range out {
		sym, _, _ := h.name(uint32(i))
		out[i] = strings.Clone(h.symbol(sym))
	}
	return out
}

// Label returns the values of a label name; of a name that does not occur it
// is empty.
func (h *Header) Label(name string) Label {
	i := sort.Search(int(h.nameCount), func(i int) bool {
		sym, _, _ := h.name(uint32(i))
		return h.symbol(sym) >= name
	})
	if i == int(h.nameCount) {
		return Label{}
	}
	sym, first, count := h.name(uint32(i))
	if h.symbol(sym) != name {
		return Label{}
	}
	return Label{h: h, first: first, count: int(count)}
}

// Close frees the memory. Nothing that came from the header may be used later.
func (h *Header) Close() error {
	if h.close == nil {
		return nil
	}
	return h.close()
}

// Label is the sorted list of the values of one label name.
type Label struct {
	h     *Header
	first uint32
	count int
}

// Len is the number of values.
func (l Label) Len() int { return l.count }

// Value returns value number i, 0 ≤ i < Len.
func (l Label) Value(i int) string {
	sym, _ := l.h.entry(l.first + uint32(i))
	return l.h.symbol(sym)
}

// Postings says where the list of the series with value number i lies.
func (l Label) Postings(i int) Postings {
	_, p := l.h.entry(l.first + uint32(i))
	return p
}

// Find returns the number of a value.
func (l Label) Find(value string) (int, bool) {
	i := l.search(value)
	return i, i < l.count && l.Value(i) == value
}

// Prefix returns the numbers [lo, hi) of the values that begin with prefix.
func (l Label) Prefix(prefix string) (lo, hi int) {
	lo = l.search(prefix)
	hi = lo + sort.Search(l.count-lo, func(i int) bool {
		return !strings.HasPrefix(l.Value(lo+i), prefix)
	})
	return lo, hi
}

func (l Label) search(value string) int {
	return sort.Search(l.count, func(i int) bool { return l.Value(i) >= value })
}
