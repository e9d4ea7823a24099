package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// metaChunks are FloatChunks in the encoding XOR.
type metaChunks []chunks.Meta

func (c metaChunks) Len() int { return len(c) }

func (c metaChunks) Chunk(i int) FloatChunk {
	return FloatChunk{MinTime: c[i].MinTime, MaxTime: c[i].MaxTime, Payload: c[i].Chunk.Bytes()}
}

// interval estimates the time between two samples of chunks.
func interval(metas []chunks.Meta) int64 {
	return Interval(len(metas), func(i int) (mint, maxt int64, samples int) {
		return metas[i].MinTime, metas[i].MaxTime, metas[i].Chunk.NumSamples()
	})
}

// newSequence iterates over the samples of chunks that do not overlap.
func newSequence(metas []chunks.Meta) chunkenc.Iterator {
	for _, c := range metas {
		if c.Chunk.Encoding() != chunkenc.EncXOR {
			return &sequence{chunks: metas, lastT: math.MinInt64}
		}
	}
	return NewFloats(metaChunks(metas), Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}, nil)
}

// sequence iterates over chunks of any encoding, one after the other. It drops
// the samples of damaged chunks that would go back in time.
type sequence struct {
	chunks []chunks.Meta
	next   int
	cur    chunkenc.Iterator // nil: open the next chunk
	typ    chunkenc.ValueType
	lastT  int64
	err    error
}

func (s *sequence) Next() chunkenc.ValueType {
	for s.err == nil && (s.cur != nil || s.next < len(s.chunks)) {
		if s.cur == nil {
			s.cur = s.chunks[s.next].Chunk.Iterator(nil)
			s.next++
		}
		if s.typ = s.cur.Next(); s.typ == chunkenc.ValNone {
			s.err, s.cur = s.cur.Err(), nil
			continue
		}
		if t := s.cur.AtT(); t > s.lastT || s.lastT == math.MinInt64 {
			s.lastT = t
			return s.typ
		}
	}
	s.typ = chunkenc.ValNone
	return s.typ
}

// Seek does not open the chunks that end before t.
func (s *sequence) Seek(t int64) chunkenc.ValueType {
	if s.typ != chunkenc.ValNone && s.lastT >= t {
		return s.typ
	}
	if s.cur != nil && s.chunks[s.next-1].MaxTime < t {
		s.cur = nil
	}
	for s.cur == nil && s.next < len(s.chunks) && s.chunks[s.next].MaxTime < t {
		s.next++
	}
	for typ := s.Next(); typ != chunkenc.ValNone; typ = s.Next() {
		if s.lastT >= t {
			return typ
		}
	}
	return chunkenc.ValNone
}

func (s *sequence) At() (int64, float64) { return s.cur.At() }

func (s *sequence) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return s.cur.AtHistogram(h)
}

func (s *sequence) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return s.cur.AtFloatHistogram(h)
}

func (s *sequence) AtT() int64 { return s.lastT }

func (s *sequence) AtST() int64 { return s.cur.AtST() }

func (s *sequence) Err() error { return s.err }
