package headship

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/record"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// decoder decompresses records. One goroutine uses it.
type decoder struct {
	zstd *zstd.Decoder
	buf  []byte
}

func newDecoder() (*decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(headlog.MaxRecord))
	if err != nil {
		return nil, fmt.Errorf("make decoder of log records: %w", err)
	}
	return &decoder{zstd: z}, nil
}

// decode returns the record, valid until the next call.
func (d *decoder) decode(codec headlog.Codec, payload []byte) ([]byte, error) {
	var err error
	switch codec {
	case headlog.CodecSnappy:
		n, lenErr := snappy.DecodedLen(payload)
		if lenErr != nil || n > headlog.MaxRecord {
			return nil, fmt.Errorf("decompress record: length %d: %w", n, errors.Join(lenErr, errDamaged))
		}
		if cap(d.buf) < n {
			d.buf = make([]byte, n)
		}
		d.buf, err = snappy.Decode(d.buf[:cap(d.buf)], payload)
	case headlog.CodecZstd:
		d.buf, err = d.zstd.DecodeAll(payload, d.buf[:0])
	default:
		return payload, nil
	}
	if err != nil {
		return nil, fmt.Errorf("decompress record: %w", err)
	}
	return d.buf, nil
}

// times is the range of the times of samples, inclusive, in milliseconds.
type times struct{ min, max int64 }

// noTimes is the range without a time.
func noTimes() times { return times{min: math.MaxInt64, max: math.MinInt64} }

func (t times) empty() bool { return t.min > t.max }

func (t *times) add(v int64) {
	t.min = min(t.min, v)
	t.max = max(t.max, v)
}

// class says what shipping does with a record.
type class int

const (
	classOther   class = iota // not shipped
	classSeries               // series and tombstones
	classSamples              // floats and histograms
)

func classOf(t record.Type) class {
	switch t {
	case record.Series, record.Tombstones:
		return classSeries
	case record.Samples, record.SamplesV2, record.HistogramSamples, record.FloatHistogramSamples,
		record.CustomBucketsHistogramSamples, record.CustomBucketsFloatHistogramSamples,
		record.HistogramSamplesV2, record.FloatHistogramSamplesV2:
		return classSamples
	}
	return classOther
}

// recordType returns the type of a record that is not empty.
func recordType(rec []byte) record.Type { return record.Type(rec[0]) }

// peek returns the type of a compressed record without decompressing it, where that is
// possible.
func peek(codec headlog.Codec, payload []byte) (record.Type, bool) {
	switch codec {
	case headlog.CodecNone:
		if len(payload) > 0 {
			return record.Type(payload[0]), true
		}
	case headlog.CodecSnappy:
		// A snappy block is its length and elements; the first one can only be a
		// literal, whose length has 6 bits or 1 to 4 bytes.
		_, n := binary.Uvarint(payload)
		if n <= 0 || n >= len(payload) || payload[n]&3 != 0 {
			return 0, false
		}
		skip := 1
		if l := int(payload[n] >> 2); l >= 60 {
			skip += l - 59
		}
		if n+skip < len(payload) {
			return record.Type(payload[n+skip]), true
		}
	}
	return 0, false
}

// sampleTimes adds the times of the samples of a record to t. It reads only the numbers
// before and after each value, because decoding them costs many times as much.
func sampleTimes(rec []byte, t *times) error {
	if len(rec) < 2 {
		return nil
	}
	s := scanner{b: rec[1:]}
	typ := record.Type(rec[0])
	switch typ {
	case record.Samples:
		base := s.base()
		s.floats(base, t)
	case record.SamplesV2:
		s.samplesV2(t, func() { s.skip(8) })
	case record.HistogramSamples, record.CustomBucketsHistogramSamples,
		record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples:
		float := typ == record.FloatHistogramSamples || typ == record.CustomBucketsFloatHistogramSamples
		for base := s.base(); len(s.b) > 0 && !s.bad; {
			s.varint()
			t.add(base + s.varint())
			s.histogram(float)
		}
	case record.HistogramSamplesV2:
		s.samplesV2(t, func() { s.histogram(false) })
	case record.FloatHistogramSamplesV2:
		s.samplesV2(t, func() { s.histogram(true) })
	}
	if s.bad {
		return fmt.Errorf("%w: record of type %s ends within a sample", errDamaged, typ)
	}
	return nil
}

// scanner reads a record from its front. bad is set once it ends too early.
type scanner struct {
	b   []byte
	bad bool
}

func (s *scanner) skip(n uint64) {
	if n > uint64(len(s.b)) {
		s.b, s.bad = nil, true
		return
	}
	s.b = s.b[n:]
}

func (s *scanner) uvarint() uint64 {
	v, n := binary.Uvarint(s.b)
	if n <= 0 {
		s.b, s.bad = nil, true
		return 0
	}
	s.b = s.b[n:]
	return v
}

func (s *scanner) varint() int64 {
	v := s.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// base skips the first reference and returns the first time.
func (s *scanner) base() int64 {
	if len(s.b) < 16 {
		s.b, s.bad = nil, true
		return 0
	}
	v := int64(binary.BigEndian.Uint64(s.b[8:]))
	s.b = s.b[16:]
	return v
}

// floats reads the samples of version 1: reference, time and value of each. Nearly all
// of them have the time of the first one, which is a single zero byte after one or two
// bytes of reference.
func (s *scanner) floats(base int64, t *times) {
	b := s.b
	if len(b) > 0 {
		t.add(base) // the first sample
	}
	for len(b) > 0 {
		if len(b) >= 11 {
			if b[0] < 0x80 && b[1] == 0 {
				b = b[10:]
				continue
			}
			if b[1] < 0x80 && b[2] == 0 && b[0] >= 0x80 {
				b = b[11:]
				continue
			}
		}
		_, n := binary.Uvarint(b)
		if n <= 0 {
			s.bad = true
			return
		}
		v, m := binary.Varint(b[n:])
		if m <= 0 || n+m+8 > len(b) {
			s.bad = true
			return
		}
		t.add(base + v)
		b = b[n+m+8:]
	}
}

// samplesV2 reads samples of version 2: reference, time, start time and value.
func (s *scanner) samplesV2(t *times, value func()) {
	var first int64
	for i := 0; len(s.b) > 0 && !s.bad; i++ {
		s.varint()
		v := s.varint()
		if i == 0 {
			first = v
			s.varint() // start time
		} else {
			v += first
			const explicitStart = 2
			if len(s.b) == 0 {
				s.bad = true
				return
			}
			marker := s.b[0]
			s.b = s.b[1:]
			if marker >= explicitStart {
				s.varint()
			}
		}
		value()
		if !s.bad {
			t.add(v)
		}
	}
}

// histogram skips a native histogram; those of floats have 8 bytes for each count.
func (s *scanner) histogram(float bool) {
	count := func() { s.uvarint() }
	if float {
		count = func() { s.skip(8) }
	}
	s.skip(1) // counter reset hint
	schema := s.varint()
	s.skip(8) // threshold of zero
	count()
	count()
	s.skip(8) // sum
	for range 2 {
		for n := s.uvarint(); n > 0 && !s.bad; n-- {
			s.uvarint()
			s.uvarint()
		}
	}
	for range 2 {
		for n := s.uvarint(); n > 0 && !s.bad; n-- {
			count()
		}
	}
	if histogram.IsCustomBucketsSchema(int32(schema)) {
		n := s.uvarint()
		s.skip(min(n, math.MaxUint64/8) * 8)
	}
}
