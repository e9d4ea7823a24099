package block

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// decoder returns a decoder of series with all symbols in memory. The index
// reader's own finds each symbol by a walk. Its symbols are numbered, except in
// the first version of the index, where they are offsets.
func (v *verifier) decoder(r *index.Reader) (*index.Decoder, error) {
	if r.Version() == index.FormatV1 {
		toc, err := index.NewTOCFromByteSlice(v.index)
		if err != nil {
			return nil, err
		}
		symbols, err := index.NewSymbols(v.index, r.Version(), int(toc.Symbols))
		if err != nil {
			return nil, err
		}
		return &index.Decoder{LookupSymbol: func(_ context.Context, n uint32) (string, error) { return symbols.Lookup(n) }}, nil
	}
	var all []string
	it := r.Symbols()
	for it.Next() {
		all = append(all, it.At())
	}
	return &index.Decoder{LookupSymbol: func(_ context.Context, n uint32) (string, error) {
		if uint64(n) >= uint64(len(all)) {
			return "", fmt.Errorf("symbol %d of %d does not exist", n, len(all))
		}
		return all[n], nil
	}}, it.Err()
}

// checkPostings verifies the checksum of every postings list.
func (v *verifier) checkPostings() error {
	toc, err := index.NewTOCFromByteSlice(v.index)
	if err != nil {
		return corrupt(reason.BlockIndexCorrupt, "read table of contents: %w", err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	err = index.ReadPostingsOffsetTable(v.index, toc.PostingsTable, func(name, value []byte, off uint64, _ int) error {
		if off >= uint64(len(v.index)) {
			return fmt.Errorf("postings of %s=%q lie outside the index", name, value)
		}
		d := encoding.NewDecbufAt(v.index, int(off), table)
		if d.Err() != nil {
			return fmt.Errorf("postings of %s=%q: %w", name, value, d.Err())
		}
		return v.ctx.Err()
	})
	if cerr := v.ctx.Err(); cerr != nil {
		return cerr
	}
	if err != nil {
		return corrupt(reason.BlockIndexCorrupt, "read postings: %w", err)
	}
	return nil
}

// seriesAlign is the alignment of series entries; references count in it, but
// for the first version of the index.
func seriesAlign(ix byteSlice) uint64 {
	if len(ix) > 4 && ix[4] == index.FormatV1 {
		return 1
	}
	return 16
}

// seriesSize returns the size of an entry that has been read already.
func seriesSize(ix byteSlice, ref storage.SeriesRef) (int64, error) {
	off := uint64(ref) * seriesAlign(ix)
	if off >= uint64(len(ix)) {
		return 0, errors.New("entry lies outside the index")
	}
	n, w := binary.Uvarint(ix[off:min(off+binary.MaxVarintLen64, uint64(len(ix)))])
	if w <= 0 || n > uint64(len(ix)) {
		return 0, errors.New("length of entry cannot be read")
	}
	return int64(n) + int64(w) + crc32.Size, nil
}

// checkChunk verifies a chunk, and decodes it if samples are checked. It returns the size of
// its record, or 0 without the segments.
func (v *verifier) checkChunk(m *chunks.Meta) (int64, error) {
	if v.indexOnly {
		seg, off := chunks.BlockChunkRef(m.Ref).Unpack()
		if seg >= len(v.sizes) || off < chunks.SegmentHeaderSize || int64(off) >= v.sizes[seg] {
			return 0, fmt.Errorf("offset %d lies outside segment %d of %d", off, seg+1, len(v.sizes))
		}
		return 0, nil
	}
	c, size, err := v.segments.Chunk(m.Ref)
	if err != nil {
		return 0, err
	}
	if v.samples == nil {
		return size, nil
	}
	return size, v.samples.Chunk(c.Encoding, c.Bytes, m.MinTime, m.MaxTime)
}
