package remotewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// Collector is an appender that makes a batch. It
// belongs to one goroutine.
type Collector struct {
	// Adjust, when not nil, may change a histogram before it is appended, at the
	// time t in Unix milliseconds.
	Adjust func(t int64, h *histogram.Histogram)

	buf   *Buffer
	limit int
	raw   []byte
	err   error
}

// NewCollector returns an empty collector. Batches above limit bytes fail.
func NewCollector(limit int64) *Collector {
	return &Collector{buf: NewBuffer(64 << 10), limit: int(min(limit, math.MaxUint32))}
}

// Append adds a series with one sample or histogram, and its exemplars and
// metadata.
func (c *Collector) Append(_ storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	raw := AppendLabels(c.raw[:0], ls)
	var err error
	switch {
	case fh != nil:
		raw, err = appendHistogram(raw, prompb.FromFloatHistogram(t, fh), st)
	case h != nil:
		if c.Adjust != nil {
			c.Adjust(t, h)
		}
		raw, err = appendHistogram(raw, prompb.FromIntHistogram(t, h), st)
	default:
		raw = appendSample(raw, Sample{T: t, ST: st, V: v})
	}
	if err != nil {
		return 0, fmt.Errorf("encode a histogram: %w", err)
	}
	for _, e := range opts.Exemplars {
		msg := AppendLabels(nil, e.Labels)
		msg = append(msg, 2<<3|protoscan.Fixed64)
		msg = binary.LittleEndian.AppendUint64(msg, math.Float64bits(e.Value))
		msg = append(msg, 3<<3|protoscan.Varint)
		raw = appendMessage(raw, tagExemplar, appendUvarint(msg, uint64(e.Ts)))
	}
	if !opts.Metadata.IsEmpty() {
		raw = appendMessage(raw, tagSeriesMeta, seriesMetadata(opts.Metadata))
	}
	c.raw = raw
	if len(c.buf.B)+len(raw)+16 > c.limit {
		c.err = &TooLargeError{Size: int64(len(c.buf.B) + len(raw)), Limit: int64(c.limit), What: "the translated request"}
		return 0, c.err
	}
	c.buf.B = appendMessage(c.buf.B, tagSeries, raw)
	return 1, nil
}

// Commit does nothing: Batch ends the collection.
func (c *Collector) Commit() error { return nil }

// Rollback releases the memory.
func (c *Collector) Rollback() error {
	c.buf.Release()
	c.buf = nil
	return nil
}

// Batch returns the appended series. The collector cannot be used afterwards.
func (c *Collector) Batch() (*Batch, error) {
	buf := c.buf
	c.buf = nil
	if c.err != nil {
		buf.Release()
		return nil, c.err
	}
	if buf == nil {
		return nil, errors.New("BUG: collector used after its end")
	}
	return ScanV1(buf, buf.B)
}

func appendMessage(b []byte, tag byte, msg []byte) []byte {
	b = append(b, tag)
	b = appendUvarint(b, uint64(len(msg)))
	return append(b, msg...)
}

func appendSample(b []byte, s Sample) []byte {
	var msg [40]byte
	m := append(msg[:0], 1<<3|protoscan.Fixed64)
	m = binary.LittleEndian.AppendUint64(m, math.Float64bits(s.V))
	m = append(m, 2<<3|protoscan.Varint)
	m = appendUvarint(m, uint64(s.T))
	if s.ST != 0 {
		m = append(m, 3<<3|protoscan.Varint)
		m = appendUvarint(m, uint64(s.ST))
	}
	return appendMessage(b, tagSample, m)
}

func appendHistogram(b []byte, h prompb.Histogram, st int64) ([]byte, error) {
	msg, err := h.Marshal()
	if err != nil {
		return b, err
	}
	if st != 0 {
		msg = appendUvarint(msg, 17<<3|protoscan.Varint)
		msg = appendUvarint(msg, uint64(st))
	}
	return appendMessage(b, tagHistogram, msg), nil
}

// seriesMetadata is the inverse of ParseSeriesMetadata.
func seriesMetadata(m metadata.Metadata) []byte {
	kind := uint64(0)
	for n := range uint64(8) {
		if metricType(n) == m.Type {
			kind = n
		}
	}
	msg := appendUvarint([]byte{1<<3 | protoscan.Varint}, kind)
	msg = appendMessage(msg, 2<<3|protoscan.Bytes, []byte(m.Help))
	return appendMessage(msg, 3<<3|protoscan.Bytes, []byte(m.Unit))
}

var _ storage.AppenderV2 = (*Collector)(nil)
