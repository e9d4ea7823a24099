package remotewrite

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// Sample is one float sample. ST is its start timestamp, 0 when unknown.
type Sample struct {
	T, ST int64
	V     float64
}

// Item is the kind of a field of a series.
type Item int

// The items of a series.
const (
	ItemSample Item = iota
	ItemHistogram
	ItemExemplar
	ItemMetadata
)

// ItemReader walks over the fields of a series beside its labels. The zero
// value with B set to Series.Rest is ready to use; B has been checked by a
// scan.
type ItemReader struct {
	B []byte
	i int
}

// Next returns the next item and its message; ok is false at the end.
func (r *ItemReader) Next() (item Item, msg []byte, ok bool) {
	for r.i < len(r.B) {
		tag, next := protoscan.Uvarint(r.B, r.i)
		if next < 0 {
			return 0, nil, false
		}
		if tag&7 != protoscan.Bytes {
			if r.i = protoscan.Skip(r.B, next, tag); r.i < 0 {
				return 0, nil, false
			}
			continue
		}
		start, end := protoscan.Delimited(r.B, next)
		if end < 0 {
			return 0, nil, false
		}
		r.i, msg = end, r.B[start:end:end]
		switch tag {
		case tagSample:
			return ItemSample, msg, true
		case tagHistogram:
			return ItemHistogram, msg, true
		case tagExemplar:
			return ItemExemplar, msg, true
		case tagSeriesMeta:
			return ItemMetadata, msg, true
		}
	}
	return 0, nil, false
}

// ParseSample reads a Sample message.
func ParseSample(b []byte) (s Sample, err error) {
	// The form that every sender writes: value, then timestamp.
	if len(b) > 10 && b[0] == 1<<3|protoscan.Fixed64 && b[9] == 2<<3|protoscan.Varint {
		if t, n := binary.Uvarint(b[10:]); n > 0 && 10+n == len(b) {
			return Sample{T: int64(t), V: math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))}, nil
		}
	}
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		switch f.Tag {
		case 1<<3 | protoscan.Fixed64:
			s.V = math.Float64frombits(f.Num)
		case 2<<3 | protoscan.Varint:
			s.T = int64(f.Num)
		case 3<<3 | protoscan.Varint:
			s.ST = int64(f.Num)
		}
	}
	if fs.Err() != nil {
		return s, malformed("sample")
	}
	return s, nil
}

// ParseExemplar reads an Exemplar message. Its labels point into no buffer.
func ParseExemplar(b []byte) (exemplar.Exemplar, error) {
	var (
		e     exemplar.Exemplar
		sb    = labels.NewScratchBuilder(4)
		fs, f = protoscan.Fields{B: b}, protoscan.Field{}
	)
	for fs.Next(&f) {
		switch f.Tag {
		case 1<<3 | protoscan.Bytes:
			r := labelReader{}
			name, value, ok := r.slow(f.Data)
			if !ok {
				return e, malformed("label of an exemplar")
			}
			if len(value) == 0 {
				continue // no label
			}
			if problem, text := checkLabel(zerocopy.String(name), zerocopy.String(value), LabelLimits{}); problem != "" {
				return e, &InvalidSeriesError{Reason: reason.MalformedExemplar, Text: "an exemplar has an invalid label: " + text}
			}
			sb.Add(string(name), string(value))
		case 2<<3 | protoscan.Fixed64:
			e.Value = math.Float64frombits(f.Num)
		case 3<<3 | protoscan.Varint:
			e.Ts, e.HasTs = int64(f.Num), true
		}
	}
	if fs.Err() != nil {
		return e, malformed("exemplar")
	}
	sb.Sort()
	e.Labels = sb.Labels()
	return e, nil
}

// Metadata describes one metric family.
type Metadata struct {
	Family string
	metadata.Metadata
}

// ParseMetadata reads a prometheus.MetricMetadata message.
func ParseMetadata(b []byte) (m Metadata, err error) {
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		switch f.Tag {
		case 1<<3 | protoscan.Varint:
			m.Type = metricType(f.Num)
		case 2<<3 | protoscan.Bytes:
			m.Family = string(f.Data)
		case 4<<3 | protoscan.Bytes:
			m.Help = string(f.Data)
		case 5<<3 | protoscan.Bytes:
			m.Unit = string(f.Data)
		}
	}
	if fs.Err() != nil {
		return m, malformed("metadata")
	}
	return m, nil
}

// ParseSeriesMetadata reads the metadata extension of a series.
func ParseSeriesMetadata(b []byte) (m metadata.Metadata, err error) {
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		switch f.Tag {
		case 1<<3 | protoscan.Varint:
			m.Type = metricType(f.Num)
		case 2<<3 | protoscan.Bytes:
			m.Help = string(f.Data)
		case 3<<3 | protoscan.Bytes:
			m.Unit = string(f.Data)
		}
	}
	if fs.Err() != nil {
		return m, malformed("metadata of a series")
	}
	return m, nil
}

// metricType translates the enum, which is the same in both versions.
func metricType(n uint64) model.MetricType {
	types := [...]model.MetricType{
		model.MetricTypeUnknown, model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram,
		model.MetricTypeGaugeHistogram, model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset,
	}
	if n < uint64(len(types)) {
		return types[n]
	}
	return model.MetricTypeUnknown
}
