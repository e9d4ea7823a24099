package storerpc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/grpc/mem"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// errColumn is the error for a column that has too few or too many elements, or an
// element that is no number.
var errColumn = errors.New("a column of a packed frame does not fit the others")

// keepingUnmarshaler is a message that keeps the bytes that it is decoded from, if
// keeps says so for the first bytes of the message. The message owns these bytes then.
type keepingUnmarshaler interface {
	keeps(start []byte) bool
	unmarshalKept(data []byte) error
}

// ownBytes copies a message into memory of its own, which is not cleared before, as that
// of make is.
func ownBytes(data mem.BufferSlice) []byte {
	var b strings.Builder
	b.Grow(data.Len())
	for _, part := range data {
		b.Write(part.ReadOnlyData())
	}
	return zerocopy.Bytes(b.String())
}

// keeps implements keepingUnmarshaler: chunks of a packed frame are views of it.
func (f *frame) keeps(start []byte) bool {
	tag, i := protoscan.Uvarint(start, 0)
	return i > 0 && tag == tagResponsePacked
}

// unmarshalKept implements keepingUnmarshaler.
func (f *frame) unmarshalKept(data []byte) error {
	f.kept = len(data)
	defer func() { f.kept = 0 }()
	return f.UnmarshalView(data)
}

// packedReader reads the columns of a packed frame, each from its beginning on.
type packedReader struct {
	counts, minTimes, spans, lengths, encodings, data []byte

	// The places of the next elements.
	count, minTime, span, length, encoding, start int
	// before is the minimum time of the chunk before.
	before int64
	// used is the number of bytes of the chunks that were accepted.
	used int
}

// maxKeptRatio is how many times the size of its chunks a message may have that is kept for
// them. The readers of a stream count the bytes of chunks only.
const maxKeptRatio = 4

// addPacked adds the series of a packed frame. Its chunks are views of the message when
// the frame keeps it, and else of a copy of the data.
func (f *frame) addPacked(b []byte) error {
	var p packedReader
	first, firstChunk := len(f.series), len(f.chunks)
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		switch field.Tag {
		case tagPackedSeries:
			if err := f.addSeries(field.Data, false); err != nil {
				return err
			}
		case tagPackedCounts:
			p.counts = field.Data
		case tagPackedMinTimes:
			p.minTimes = field.Data
		case tagPackedSpans:
			p.spans = field.Data
		case tagPackedLengths:
			p.lengths = field.Data
		case tagPackedEncodings:
			p.encodings = field.Data
		case tagPackedData:
			p.data = field.Data
		}
	}
	if err := fields.Err(); err != nil {
		return err
	}
	held := f.kept
	if held == 0 {
		p.data = append([]byte(nil), p.data...)
		held = len(p.data)
	}
	for i := first; i < len(f.series); i++ {
		var n uint64
		if n, p.count = protoscan.Uvarint(p.counts, p.count); p.count < 0 {
			return fmt.Errorf("number of chunks: %w", errColumn)
		}
		if err := f.addPackedChunks(&p, n); err != nil {
			return err
		}
		f.ends[i] = len(f.chunks)
	}
	if !p.isRead() {
		return fmt.Errorf("more elements than the series have: %w", errColumn)
	}
	if held > maxKeptRatio*p.used {
		for i := firstChunk; i < len(f.chunks); i++ {
			raw := &f.chunks[i].Raw
			raw.Bytes = f.keep(raw.Bytes)
		}
	}
	return nil
}

// isRead reports whether all columns are read to their ends.
func (p *packedReader) isRead() bool {
	return p.count == len(p.counts) && p.minTime == len(p.minTimes) && p.span == len(p.spans) &&
		p.length == len(p.lengths) && p.encoding == len(p.encodings) && p.start == len(p.data)
}

// addPackedChunks adds the next n chunks of the columns. A chunk whose data fails its
// check is left out, as decodeData does.
func (f *frame) addPackedChunks(p *packedReader, n uint64) error {
	if n > uint64(maxFrameChunks-len(f.chunks)) {
		return fmt.Errorf("%w: more than %d chunks in one message", limit.ErrExceeded, maxFrameChunks)
	}
	for range n {
		var minTime, span, length uint64
		minTime, p.minTime = uvarint(p.minTimes, p.minTime)
		span, p.span = uvarint(p.spans, p.span)
		length, p.length = uvarint(p.lengths, p.length)
		if p.minTime < 0 || p.span < 0 || p.length < 0 || length > uint64(len(p.data)-p.start) {
			return fmt.Errorf("times and length of a chunk: %w", errColumn)
		}
		encoding := chunkenc.EncXOR
		if len(p.encodings) > 0 {
			if p.encoding == len(p.encodings) {
				return fmt.Errorf("encoding of a chunk: %w", errColumn)
			}
			t := p.encodings[p.encoding]
			if t > 254 {
				return fmt.Errorf("chunk has the unknown encoding %d", t)
			}
			encoding = chunkenc.Encoding(t + 1)
			p.encoding++
		}
		end := p.start + int(length)
		data := p.data[p.start:end:end]
		p.start = end
		p.before += protoscan.Zigzag(minTime)
		if err := chunkcheck.Check(encoding, data); err != nil {
			if f.bad == nil {
				f.bad = err
			}
			continue
		}
		p.used += len(data)
		f.chunks = append(f.chunks, storeapi.Chunk{
			MinTime: p.before, MaxTime: p.before + protoscan.Zigzag(span),
			Raw: storeapi.Data{Encoding: encoding, Bytes: data},
		})
	}
	return nil
}

// uvarint is protoscan.Uvarint, faster for numbers of three bytes: times of 16 s to 17
// minutes, or twice that with a sign.
func uvarint(b []byte, i int) (v uint64, next int) {
	if i >= 0 && i+2 < len(b) && b[i]&b[i+1] >= 0x80 && b[i+2] < 0x80 {
		return uint64(b[i]&0x7f) | uint64(b[i+1]&0x7f)<<7 | uint64(b[i+2])<<14, i + 3
	}
	return protoscan.Uvarint(b, i)
}
