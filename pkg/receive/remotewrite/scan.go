package remotewrite

import (
	"fmt"
	"math"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// Tags that occur in every request.
const (
	tagSeries   = 1<<3 | protoscan.Bytes // WriteRequest.timeseries
	tagMetadata = 3<<3 | protoscan.Bytes // WriteRequest.metadata

	tagLabel      = 1<<3 | protoscan.Bytes // TimeSeries.labels
	tagSample     = 2<<3 | protoscan.Bytes // TimeSeries.samples
	tagExemplar   = 3<<3 | protoscan.Bytes // TimeSeries.exemplars
	tagHistogram  = 4<<3 | protoscan.Bytes // TimeSeries.histograms
	tagSeriesMeta = fieldSeriesMeta<<3 | protoscan.Bytes

	fieldSeriesMeta = 15 // our extension: metadata of the series' metric
)

// ScanV1 finds the series in data, a prometheus.WriteRequest or any message
// with the same field 1, and takes over the caller's ownership of buf, of which
// data is a part. On error the buffer is released.
func ScanV1(buf *Buffer, data []byte) (*Batch, error) {
	if len(data) > math.MaxUint32 {
		buf.Release()
		return nil, malformed("the request has 4 GiB or more")
	}
	b := newBatch(buf, data)
	ordered, err := b.scan()
	if err != nil {
		b.Close()
		return nil, err
	}
	if !ordered {
		return reorder(b)
	}
	return b, nil
}

// scan fills the spans. ordered is false when a series has a label field
// after another field.
func (b *Batch) scan() (ordered bool, err error) {
	data, i := b.data, 0
	ordered = true
	version2 := false
	mostSeries, mostMetadata := mostParts(len(data), leastSeries), mostParts(len(data), leastMetadata)
	for i < len(data) {
		at := i
		tag, next := protoscan.Uvarint(data, i)
		switch {
		case next < 0 || tag>>3 == 0:
			return false, malformed("write request: bad field tag")
		case tag == tagSeries:
			start, end := protoscan.Delimited(data, next)
			if end < 0 {
				return false, malformed("write request: series longer than the request")
			}
			rest, ok, err := scanSeries(data, start, end, &b.counts)
			if err != nil {
				return false, fmt.Errorf("series %d: %w", len(b.spans), err)
			}
			ordered = ordered && ok
			if len(b.spans) == mostSeries {
				return false, tooDense("series", len(data))
			}
			b.spans = append(b.spans, span{uint32(at), uint32(start), uint32(rest), uint32(end)})
			i = end
		case tag == tagMetadata:
			start, end := protoscan.Delimited(data, next)
			if end < 0 {
				return false, malformed("write request: metadata longer than the request")
			}
			if len(b.metadata) == mostMetadata {
				return false, tooDense("metadata", len(data))
			}
			b.metadata = append(b.metadata, data[start:end:end])
			i = end
		default:
			version2 = version2 || tag == tagV2Series
			if i = protoscan.Skip(data, next, tag); i < 0 {
				return false, malformed("write request: bad field")
			}
		}
	}
	if version2 && len(b.spans) == 0 {
		return false, Errorf(Invalid, "write request: the body is remote write 2.0, the content type says 1.0")
	}
	b.counts.Series = len(b.spans)
	return ordered, nil
}

// scanSeries checks the fields of the series in data[i:end] and counts them. It
// returns where the labels end.
func scanSeries(data []byte, i, end int, c *Counts) (rest int, ordered bool, err error) {
	data = data[:end]
	for i < end && data[i] == tagLabel {
		if i+1 < end && data[i+1] < 0x80 && i+2+int(data[i+1]) <= end {
			i += 2 + int(data[i+1])
			continue
		}
		if _, i = protoscan.Delimited(data, i+1); i < 0 {
			return 0, false, malformed("label longer than its series")
		}
	}
	rest, ordered = i, true
	for i < end {
		tag, next := protoscan.Uvarint(data, i)
		if next < 0 || tag>>3 == 0 {
			return 0, false, malformed("bad field tag")
		}
		switch tag {
		case tagSample:
			c.Samples++
		case tagExemplar:
			c.Exemplars++
		case tagHistogram:
			c.Histograms++
		case tagLabel:
			ordered = false
		}
		if i = protoscan.Skip(data, next, tag); i < 0 {
			return 0, false, malformed("field longer than its series")
		}
	}
	return rest, ordered, nil
}

// reorder copies a batch so that the labels of each series come first. No
// known sender needs it, but protobuf allows any order.
func reorder(old *Batch) (*Batch, error) {
	defer old.Close()
	buf := NewBuffer(len(old.data))
	for i := range old.spans {
		s := old.spans[i]
		payload := old.data[s.labels:s.end]
		buf.B = append(buf.B, tagSeries)
		buf.B = appendUvarint(buf.B, uint64(len(payload)))
		for _, wantLabels := range []bool{true, false} {
			for i := 0; i < len(payload); {
				tag, next := protoscan.Uvarint(payload, i)
				end := protoscan.Skip(payload, next, tag)
				if (tag == tagLabel) == wantLabels {
					buf.B = append(buf.B, payload[i:end]...)
				}
				i = end
			}
		}
	}
	for _, m := range old.metadata {
		buf.B = append(buf.B, tagMetadata)
		buf.B = appendUvarint(buf.B, uint64(len(m)))
		buf.B = append(buf.B, m...)
	}
	b := newBatch(buf, buf.B)
	if _, err := b.scan(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}
