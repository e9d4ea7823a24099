package indexheader

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/index"
)

const (
	indexHeadSize = 5             // magic and version
	tocSize       = 6*8 + crcSize // six offsets and a checksum
)

// sections are the parts of an index that a header is made of.
type sections struct {
	size     int64
	version  byte
	toc      toc
	symbols  []byte // from its length field to its checksum, perhaps more
	postings []byte // the postings offset table, likewise
}

// toc is the table of contents at the end of an index.
type toc struct {
	symbols, series, labelIndices, labelIndicesTable, postings, postingsTable int64
}

// readHead checks the first bytes of an index.
func readHead(b []byte) error {
	if len(b) < indexHeadSize || binary.BigEndian.Uint32(b) != index.MagicIndex {
		return fmt.Errorf("%w: the index does not begin with its magic", ErrCorrupt)
	}
	if b[4] != index.FormatV2 && b[4] != index.FormatV3 {
		return fmt.Errorf("%w: index version %d is not supported", ErrCorrupt, b[4])
	}
	return nil
}

// readTOC decodes the table of contents from the last bytes of an index.
func readTOC(tail []byte, size int64) (toc, error) {
	t, err := index.NewTOCFromByteSlice(byteSlice(tail))
	if err != nil {
		return toc{}, fmt.Errorf("%w: table of contents: %w", ErrCorrupt, err)
	}
	out := toc{
		symbols: int64(t.Symbols), series: int64(t.Series),
		labelIndices: int64(t.LabelIndices), labelIndicesTable: int64(t.LabelIndicesTable),
		postings: int64(t.Postings), postingsTable: int64(t.PostingsTable),
	}
	end := size - tocSize
	for _, off := range []int64{out.symbols, out.series, out.labelIndices, out.labelIndicesTable, out.postings, out.postingsTable} {
		if off < 0 || off > end {
			return toc{}, fmt.Errorf("%w: table of contents points outside the index", ErrCorrupt)
		}
	}
	if out.symbols < indexHeadSize || out.series < out.symbols || out.postings < out.series || out.postingsTable < out.postings {
		return toc{}, fmt.Errorf("%w: sections of the index are not in order", ErrCorrupt)
	}
	return out, nil
}

// seriesEnd is where the section after the series begins.
func (t toc) seriesEnd() int64 { return t.next(t.series) }

// postingsEnd is where the section after the postings lists begins.
func (t toc) postingsEnd() int64 { return t.next(t.postings) }

func (t toc) next(off int64) int64 {
	end := t.postingsTable
	for _, o := range []int64{t.labelIndices, t.labelIndicesTable, t.postings} {
		if o > off && o < end {
			end = o
		}
	}
	return end
}

// byteSlice is an index.ByteSlice.
type byteSlice []byte

func (b byteSlice) Len() int                    { return len(b) }
func (b byteSlice) Range(start, end int) []byte { return b[start:end] }
func (b byteSlice) Sub(start, end int) index.ByteSlice {
	return b[start:end]
}

// pair is one line of the postings offset table.
type pair struct {
	name, value uint32 // symbols
	off         int64
}

// build makes the header in its file format.
func build(s sections) ([]byte, error) {
	syms, err := readSymbols(s.symbols)
	if err != nil {
		return nil, err
	}
	pairs, all, err := readPairs(s.postings, syms)
	if err != nil {
		return nil, err
	}
	lengths, err := listLengths(pairs, all, s.toc)
	if err != nil {
		return nil, err
	}
	for i := 1; i < len(pairs); i++ {
		if comparePairs(pairs[i-1], pairs[i]) >= 0 {
			return nil, fmt.Errorf("%w: label pairs of the postings offset table are not in order", ErrCorrupt)
		}
	}
	return encode(s, syms, pairs, all, lengths), nil
}

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.value, b.value))
}

// symbols are the strings of an index, in place.
type symbols struct {
	bytes [][]byte
	total int64
}

// find searches for v at or after symbol from.
func (s symbols) find(v []byte, from int) (int, bool) {
	i := from + sort.Search(len(s.bytes)-from, func(i int) bool { return bytes.Compare(s.bytes[from+i], v) >= 0 })
	return i, i < len(s.bytes) && bytes.Equal(s.bytes[i], v)
}

func readSymbols(b []byte) (symbols, error) {
	d := encoding.NewDecbufAt(byteSlice(b), 0, castagnoli())
	n := d.Be32int()
	if d.Err() != nil {
		return symbols{}, fmt.Errorf("%w: symbols: %w", ErrCorrupt, d.Err())
	}
	if n > d.Len() { // each takes a byte at least
		return symbols{}, fmt.Errorf("%w: %d symbols in %d bytes", ErrCorrupt, n, d.Len())
	}
	// The count is not trusted with an allocation before the symbols are there.
	out := symbols{bytes: make([][]byte, 0, min(n, 1<<16))}
	for range n {
		v := d.UvarintBytes()
		if d.Err() != nil {
			return symbols{}, fmt.Errorf("%w: symbols: %w", ErrCorrupt, d.Err())
		}
		if k := len(out.bytes); k > 0 && bytes.Compare(out.bytes[k-1], v) >= 0 {
			return symbols{}, fmt.Errorf("%w: symbols are not in order", ErrCorrupt)
		}
		out.bytes = append(out.bytes, v)
		out.total += int64(len(v))
	}
	return out, nil
}

// readPairs reads the postings offset table. all is the offset of the list of all
// series, or -1.
func readPairs(b []byte, syms symbols) (pairs []pair, all int64, err error) {
	all = -1
	last := pair{}
	var lastName []byte
	add := func(name, value []byte, off uint64, _ int) error {
		if off > math.MaxInt64 {
			return fmt.Errorf("%w: postings offset %d", ErrCorrupt, off)
		}
		if len(name) == 0 && len(value) == 0 {
			all = int64(off)
			return nil
		}
		from := 0
		if lastName != nil && bytes.Equal(name, lastName) {
			from = int(last.value) // values ascend within a name
		} else {
			n, ok := syms.find(name, 0)
			if !ok {
				return fmt.Errorf("%w: label name %q is no symbol", ErrCorrupt, name)
			}
			last.name, lastName = uint32(n), name
		}
		v, ok := syms.find(value, from)
		if !ok {
			return fmt.Errorf("%w: value %q of label %q is no symbol or not in order", ErrCorrupt, value, name)
		}
		last.value, last.off = uint32(v), int64(off)
		pairs = append(pairs, last)
		return nil
	}
	if err := index.ReadPostingsOffsetTable(byteSlice(b), 0, add); err != nil {
		return nil, 0, fmt.Errorf("%w: postings offset table: %w", ErrCorrupt, err)
	}
	return pairs, all, nil
}

// listLengths finds the length of each postings list from where the next one
// begins. The last element is that of the list of all series.
func listLengths(pairs []pair, all int64, t toc) ([]uint32, error) {
	offs := make([]int64, 0, len(pairs)+1)
	for _, p := range pairs {
		offs = append(offs, p.off)
	}
	if all >= 0 {
		offs = append(offs, all)
	}
	slices.Sort(offs)
	offs = slices.Compact(offs)
	if len(offs) > 0 && (offs[0] < t.postings || offs[len(offs)-1] > t.postingsEnd()) {
		return nil, fmt.Errorf("%w: a postings list lies outside its section", ErrCorrupt)
	}
	length := func(off int64) (uint32, error) {
		i, _ := slices.BinarySearch(offs, off)
		end := t.postingsEnd()
		if i+1 < len(offs) {
			end = offs[i+1]
		}
		if end-off > math.MaxUint32 {
			return 0, fmt.Errorf("%w: postings list of %d bytes", ErrCorrupt, end-off)
		}
		return uint32(end - off), nil
	}
	out := make([]uint32, len(pairs)+1)
	var err error
	for i, p := range pairs {
		if out[i], err = length(p.off); err != nil {
			return nil, err
		}
	}
	if all >= 0 {
		out[len(pairs)], err = length(all)
	}
	return out, err
}

// encode writes a header in the format of docs/format/index-header.md.
func encode(s sections, syms symbols, pairs []pair, all int64, lengths []uint32) []byte {
	le := binary.LittleEndian
	type nameRow struct{ sym, first, count uint32 }
	var names []nameRow
	for i, p := range pairs {
		if n := len(names); n == 0 || names[n-1].sym != p.name {
			names = append(names, nameRow{sym: p.name, first: uint32(i)})
		}
		names[len(names)-1].count++
	}
	size := prefixSize + 4*len(syms.bytes) + nameSize*len(names) + entrySize*len(pairs) + int(syms.total) + crcSize
	b := make([]byte, 0, size)
	b = append(b, magic...)
	b = append(b, version, s.version, 0, 0)
	b = le.AppendUint64(b, uint64(s.size))
	b = le.AppendUint64(b, uint64(s.toc.series))
	b = le.AppendUint64(b, uint64(s.toc.seriesEnd()))
	b = le.AppendUint64(b, uint64(max(all, 0)))
	b = le.AppendUint64(b, uint64(lengths[len(pairs)]))
	b = le.AppendUint32(b, uint32(len(syms.bytes)))
	b = le.AppendUint32(b, uint32(len(names)))
	b = le.AppendUint32(b, uint32(len(pairs)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(syms.total))
	b = append(b, make([]byte, prefixSize-len(b))...)
	end := uint32(0)
	for _, v := range syms.bytes {
		end += uint32(len(v))
		b = le.AppendUint32(b, end)
	}
	for _, n := range names {
		b = le.AppendUint32(b, n.sym)
		b = le.AppendUint32(b, n.first)
		b = le.AppendUint32(b, n.count)
	}
	for i, p := range pairs {
		b = le.AppendUint32(b, p.value)
		b = le.AppendUint32(b, lengths[i])
		b = le.AppendUint64(b, uint64(p.off))
	}
	for _, v := range syms.bytes {
		b = append(b, v...)
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}
