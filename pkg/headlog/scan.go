package headlog

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/record"
)

// Times is the range of the times of samples, inclusive, in milliseconds.
type Times struct{ Min, Max int64 }

// NoTimes is the range without a time.
func NoTimes() Times { return Times{Min: math.MaxInt64, Max: math.MinInt64} }

// Empty says whether no time was added.
func (t Times) Empty() bool { return t.Min > t.Max }

func (t *Times) add(v int64) {
	t.Min = min(t.Min, v)
	t.Max = max(t.Max, v)
}

// SampleTimes adds the times of the samples of a record to t. It reads only the numbers
// before and after each value, because decoding them costs many times as much.
func SampleTimes(rec []byte, t *Times) error {
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
		return fmt.Errorf("%w: record of type %s ends within a sample", ErrCorrupt, typ)
	}
	return nil
}

// CheckLengths returns an error if a record has a length that does not fit into it.
// Prometheus's decoder takes memory for such a length, or panics, so that records of the
// bucket are checked first. Records without inner lengths are not looked at.
func CheckLengths(rec []byte) error {
	if len(rec) == 0 {
		return nil
	}
	switch typ := record.Type(rec[0]); typ {
	case record.Series:
		s := scanner{b: rec[1:]}
		for len(s.b) > 0 {
			s.skip(8) // reference
			for n := s.uvarint(); n > 0 && !s.bad; n-- {
				s.skip(s.uvarint())
				s.skip(s.uvarint())
			}
		}
		if s.bad {
			return fmt.Errorf("%w: record of type %s ends within a series", ErrCorrupt, typ)
		}
	case record.Samples, record.SamplesV2, record.Tombstones:
	default:
		t := NoTimes()
		return SampleTimes(rec, &t)
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
func (s *scanner) floats(base int64, t *Times) {
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
func (s *scanner) samplesV2(t *Times, value func()) {
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
