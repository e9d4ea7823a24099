package blockmerge

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"math"

	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// symbolMap gives the number in the result of each symbol of a source. The order of
// both is that of the strings.
type symbolMap struct {
	byNumber []uint32
	// byOffset has the symbols of the first version of the index, whose references are
	// offsets.
	byOffset map[uint32]uint32
	// hashes are those of the strings, for the checker: by number, or by offset. They are
	// nil without one.
	hashes       []uint64
	offsetHashes map[uint32]uint64
}

// hash is that of a symbol of the source that exists.
func (m *symbolMap) hash(ref uint64) uint64 {
	if m.byOffset != nil {
		return m.offsetHashes[uint32(ref)]
	}
	return m.hashes[ref]
}

// lookup returns the number in the result of a symbol of the source.
func (m *symbolMap) lookup(ref uint64) (uint32, bool) {
	if m.byOffset != nil {
		n, ok := m.byOffset[uint32(min(ref, math.MaxUint32))]
		return n, ok
	}
	if ref >= uint64(len(m.byNumber)) {
		return 0, false
	}
	return m.byNumber[ref], true
}

// symbolReader reads the symbols of a source in order.
type symbolReader struct {
	src   *source
	st    *stream
	sum   hash.Hash32
	count uint32
	at    uint32 // offset of the current symbol
	cur   []byte
	first bool
}

// openSymbols reads the header of the index and of its symbols.
func (s *source) openSymbols(ctx context.Context) (*symbolReader, error) {
	r := &symbolReader{src: s, sum: crc32.New(castagnoli()), first: true}
	r.st = s.section(ctx, 0, s.after(s.toc.Symbols), s.cfg.index)
	head, err := r.st.take(index.HeaderLen)
	if err != nil {
		return nil, err
	}
	s.version = head[4]
	switch magic := binary.BigEndian.Uint32(head); {
	case magic != index.MagicIndex:
		return nil, s.corrupt(reason.BlockIndexCorrupt, "index begins with %08x instead of %08x", magic, index.MagicIndex)
	case s.version != index.FormatV1 && s.version != index.FormatV2 && s.version != index.FormatV3:
		return nil, s.corrupt(reason.BlockIndexCorrupt, "index has the unknown version %d", s.version)
	}
	if err := r.st.seek(int64(s.toc.Symbols)); err != nil {
		return nil, err
	}
	size, err := r.st.peek(4)
	if err != nil {
		return nil, err
	}
	if len(size) < 4 || r.st.left() < 4+int64(binary.BigEndian.Uint32(size))+crc32.Size || binary.BigEndian.Uint32(size) < 4 {
		return nil, s.corrupt(reason.BlockIndexCorrupt, "symbols do not end within their section")
	}
	n := int64(binary.BigEndian.Uint32(size))
	if _, err = r.st.take(4); err != nil {
		return nil, err
	}
	r.st.end = r.st.pos + n + crc32.Size
	count, err := r.take(4)
	if err != nil {
		return nil, err
	}
	r.count = binary.BigEndian.Uint32(count)
	if int64(r.count) > n {
		return nil, s.corrupt(reason.BlockIndexCorrupt, "there cannot be %d symbols in %d bytes", r.count, n)
	}
	if s.version == index.FormatV1 {
		s.symbols.byOffset, s.symbols.offsetHashes = make(map[uint32]uint32), make(map[uint32]uint64)
	} else {
		s.symbols.byNumber = make([]uint32, 0, r.count)
		if s.symbols.hashes = nil; s.check != nil {
			s.symbols.hashes = make([]uint64, 0, r.count)
		}
	}
	return r, nil
}

// take reads bytes that the checksum covers.
func (r *symbolReader) take(n int) ([]byte, error) {
	b, err := r.st.take(n)
	if err == nil {
		_, err = r.sum.Write(b)
	}
	return b, err
}

// next moves to the next symbol. After the last one it compares the checksum.
func (r *symbolReader) next() (bool, error) {
	if r.count == 0 {
		return false, r.end()
	}
	r.count--
	at := r.st.pos
	head, err := r.st.peek(binary.MaxVarintLen64)
	if err != nil {
		return false, err
	}
	n, w := binary.Uvarint(head)
	if w <= 0 || n > maxEntry || int64(n)+int64(w) > r.st.left()-crc32.Size {
		return false, r.src.corrupt(reason.BlockIndexCorrupt, "symbol at %d has no readable length", at)
	}
	b, err := r.take(w + int(n))
	if err != nil {
		return false, err
	}
	if b = b[w:]; !r.first && bytes.Compare(b, r.cur) <= 0 {
		return false, r.src.corrupt(reason.BlockIndexCorrupt, "symbol at %d is out of order", at)
	}
	r.cur, r.first, r.at = append(r.cur[:0], b...), false, uint32(at)
	return true, nil
}

// end compares the checksum.
func (r *symbolReader) end() error {
	for left := r.st.left() - crc32.Size; left > 0; left = r.st.left() - crc32.Size {
		if _, err := r.take(int(min(left, r.st.window))); err != nil {
			return err
		}
	}
	b, err := r.st.take(crc32.Size)
	if err != nil {
		return err
	}
	if want := binary.BigEndian.Uint32(b); r.sum.Sum32() != want {
		return r.src.corrupt(reason.BlockIndexCorrupt, "symbols have the checksum %08x instead of %08x", r.sum.Sum32(), want)
	}
	return nil
}

// found says that the current symbol is number n of the result.
func (r *symbolReader) found(n uint32) {
	m := &r.src.symbols
	if m.byOffset != nil {
		m.byOffset[r.at] = n
	} else {
		m.byNumber = append(m.byNumber, n)
	}
	if r.src.check == nil {
		return
	}
	if h := blockcheck.HashSymbol(r.cur); m.byOffset != nil {
		m.offsetHashes[r.at] = h
	} else {
		m.hashes = append(m.hashes, h)
	}
}

// mergeSymbols calls add for the symbols of all sources, in order and each once, and
// fills the symbol maps of the sources.
func mergeSymbols(ctx context.Context, sources []*source, add func(symbol []byte) error) error {
	var live, equal []*symbolReader
	for _, s := range sources {
		r, err := s.openSymbols(ctx)
		if err != nil {
			return s.vanished(ctx, err)
		}
		defer r.st.close()
		if live, err = keep(live, r); err != nil {
			return err
		}
	}
	for n := uint32(0); len(live) > 0; n++ {
		least := live[0].cur
		for _, r := range live[1:] {
			if bytes.Compare(r.cur, least) < 0 {
				least = r.cur
			}
		}
		if err := add(least); err != nil {
			return err
		}
		equal = equal[:0]
		rest := live[:0]
		for _, r := range live {
			if bytes.Equal(r.cur, least) {
				equal = append(equal, r)
			} else {
				rest = append(rest, r)
			}
		}
		var err error
		for _, r := range equal {
			r.found(n)
			if rest, err = keep(rest, r); err != nil {
				return err
			}
		}
		live = rest
	}
	return nil
}

// keep moves a reader on and appends it if it has a symbol.
func keep(live []*symbolReader, r *symbolReader) ([]*symbolReader, error) {
	ok, err := r.next()
	if ok {
		live = append(live, r)
	}
	return live, err
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
