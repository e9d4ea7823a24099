package headship

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
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
