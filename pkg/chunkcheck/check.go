package chunkcheck

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// maxBuckets bounds the buckets of one sign in one histogram. The finest schema
// has fewer for all values of a float64.
const maxBuckets = 1 << 20

const (
	// headerXOR is the sample count that every chunk begins with.
	headerXOR = 2
	// headerOther is the sample count and one byte of flags.
	headerOther = 3
	// countMaskST is the part of the first two bytes that counts samples in
	// histogram chunks with start timestamps; flags stand above it.
	countMaskST = 0x3fff
)

// headerSize returns the least number of bytes of a chunk of the encoding; decoders do
// not check it.
func headerSize(enc chunkenc.Encoding) int {
	if enc == chunkenc.EncXOR {
		return headerXOR
	}
	return headerOther
}

// Check checks the head of a chunk, given without its encoding byte. It refuses an
// unknown encoding, more samples, spans, buckets or custom bounds than the bits of the
// chunk can hold, buckets that the schema does not have, and a zero threshold that is not a
// number, with which additions would not end. Reading a chunk that passes
// takes memory in proportion to its size, but its samples may still not decode. A chunk
// without samples passes.
func Check(enc chunkenc.Encoding, b []byte) error {
	if !chunkenc.IsValidEncoding(enc) {
		return fmt.Errorf("unknown chunk encoding %d", enc)
	}
	if len(b) < headerSize(enc) {
		return fmt.Errorf("%s chunk of %d bytes is shorter than its header", enc, len(b))
	}
	samples := uint64(binary.BigEndian.Uint16(b))
	var err error
	switch enc {
	case chunkenc.EncXOR, chunkenc.EncXOR2:
		err = checkFloats(enc, samples, b[headerSize(enc):])
	case chunkenc.EncHistogram:
		err = checkHistogram(samples, b[headerOther:], intSample())
	case chunkenc.EncHistogramST:
		err = checkHistogram(samples&countMaskST, b[headerOther:], intSample())
	case chunkenc.EncFloatHistogram:
		err = checkHistogram(samples, b[headerOther:], floatSample())
	case chunkenc.EncFloatHistogramST:
		err = checkHistogram(samples&countMaskST, b[headerOther:], floatSample())
	case chunkenc.EncNone:
	}
	if err != nil {
		return fmt.Errorf("%s chunk of %d bytes: %w", enc, len(b), err)
	}
	return nil
}

// checkFloats bounds the number of samples. The first takes a byte of time and
// eight of value, the second a byte of time and a bit of value, each other two
// bits, or one where the encoding joins time and value.
func checkFloats(enc chunkenc.Encoding, samples uint64, body []byte) error {
	if samples == 0 {
		return nil
	}
	each := uint64(2)
	if enc == chunkenc.EncXOR2 {
		each = 1
	}
	need := uint64(72)
	if samples > 1 {
		need += 9 + each*(samples-2)
	}
	if have := 8 * uint64(len(body)); need > have {
		return fmt.Errorf("%d samples need at least %d bits, and there are %d", samples, need, have)
	}
	return nil
}

// sampleSize is the least number of bits that histogram samples take: of the
// first one without its buckets, of each of its buckets, and of each later one,
// which may be a stale marker without buckets.
type sampleSize struct{ first, bucket, later uint64 }

// intSample has a varbit for time, count and zero count, a float for the sum and
// varbits for the buckets.
func intSample() sampleSize { return sampleSize{first: 3 + 64, bucket: 1, later: 4} }

// floatSample has floats but for the time.
func floatSample() sampleSize { return sampleSize{first: 1 + 3*64, bucket: 64, later: 4} }

// checkHistogram checks the layout of a histogram chunk: spans, custom bounds, and the
// bits that its samples need.
func checkHistogram(samples uint64, body []byte, size sampleSize) error {
	if samples == 0 {
		return nil
	}
	r := &bitReader{b: body}
	if r.read(8) == 255 && math.IsNaN(math.Float64frombits(r.read(64))) { // not a power of two
		return errThreshold
	}
	schema := int32(r.varbitInt())
	positive, err := readSpans(r)
	if err != nil {
		return fmt.Errorf("positive spans: %w", err)
	}
	negative, err := readSpans(r)
	if err != nil {
		return fmt.Errorf("negative spans: %w", err)
	}
	if histogram.IsCustomBucketsSchema(schema) {
		if err := checkCustom(r, positive, negative); err != nil {
			return err
		}
	}
	if r.short {
		return errShort
	}
	need := size.first + size.bucket*(positive.buckets+negative.buckets) + size.later*(samples-1)
	if have := r.left(); need > have {
		return fmt.Errorf("%d samples with %d and %d buckets need at least %d bits, and there are %d",
			samples, positive.buckets, negative.buckets, need, have)
	}
	return nil
}

// errThreshold refuses a chunk whose histograms cannot be added: the addition widens the
// narrower zero bucket until both are equal, and a threshold that is not a number is never
// equal to another one.
var errThreshold = errors.New("the zero threshold is not a number")

var errShort = errors.New("chunk ends within its layout")

// spans is the sum of the spans of one sign.
type spans struct {
	buckets uint64
	// end is the index after the last bucket.
	end int64
}

// spanBits is the least number of bits of a span: one for its length and one for its
// offset.
const spanBits = 2

// readSpans reads the spans of one sign and bounds their buckets.
func readSpans(r *bitReader) (spans, error) {
	var out spans
	num := r.varbitUint()
	if have := r.left(); num > have/spanBits {
		return out, fmt.Errorf("%d spans do not fit into %d bits", num, have)
	}
	for i := uint64(0); i < num && !r.short; i++ {
		length, offset := r.varbitUint(), r.varbitInt()
		have := r.left()
		if length > maxBuckets || out.buckets+length > min(have, maxBuckets) {
			return out, fmt.Errorf("span %d has %d buckets, which do not fit into %d bits (%d is the most)", i+1, length, have, maxBuckets)
		}
		if offset > math.MaxInt32 || offset < math.MinInt32 || i > 0 && offset < 0 {
			return out, fmt.Errorf("span %d has the impossible offset %d", i+1, offset)
		}
		out.buckets += length
		out.end += offset + int64(length)
		if out.end > math.MaxInt32 {
			return out, fmt.Errorf("span %d ends at bucket %d, which does not exist", i+1, out.end)
		}
	}
	if r.short {
		return out, errShort
	}
	return out, nil
}

// boundBits is the least number of bits of a custom bound.
const boundBits = 5

// checkCustom reads the custom bounds. There is one more bucket than bounds, and
// no negative one.
func checkCustom(r *bitReader, positive, negative spans) error {
	num := r.varbitUint()
	if have := r.left(); num > have/boundBits || num > maxBuckets {
		return fmt.Errorf("%d custom bounds do not fit into %d bits", num, have)
	}
	for i := uint64(0); i < num && !r.short; i++ {
		if r.varbitUint() == 0 {
			r.read(64)
		}
	}
	if r.short {
		return errShort
	}
	if negative.buckets > 0 {
		return fmt.Errorf("custom buckets with %d negative ones", negative.buckets)
	}
	if positive.end > int64(num)+1 || positive.end < int64(positive.buckets) {
		return fmt.Errorf("custom buckets up to number %d with %d bounds", positive.end, num)
	}
	return nil
}
