package prom

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// frame walks over one prometheus.ChunkedReadResponse:
//
//	1  repeated ChunkedSeries
//	2  varint query index (there is only one query)
type frame struct{ fields protoscan.Fields }

func newFrame(msg []byte) frame { return frame{protoscan.Fields{B: msg}} }

// nextSeries returns the bytes of the next ChunkedSeries, nil at the end.
func (f *frame) nextSeries() ([]byte, error) {
	var field protoscan.Field
	for f.fields.Next(&field) {
		if field.Number() != 1 {
			continue
		}
		if field.Data == nil {
			return nil, errors.New("series is not a message")
		}
		return field.Data, nil
	}
	return nil, f.fields.Err()
}

// decoder reads one ChunkedSeries:
//
//	1  repeated Label  { 1 name, 2 value }
//	2  repeated Chunk  { 1 min time, 2 max time, 3 encoding, 4 data }
//
// The encoding is the number of the TSDB's own chunk encoding. Chunk bytes point
// into the frame.
type decoder struct {
	strip   map[string]string
	builder labels.ScratchBuilder
	pairs   []labels.Label

	labels labels.Labels
	chunks []Chunk
}

func newDecoder(strip labels.Labels) decoder {
	return decoder{strip: strip.Map(), builder: labels.NewScratchBuilder(16)}
}

var errDuplicateLabel = errors.New("a label occurs twice")

func (d *decoder) decode(b []byte) error {
	d.pairs = d.pairs[:0]
	d.chunks = d.chunks[:0]
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		switch field.Number() {
		case 1:
			l, err := decodeLabel(field.Data)
			if err != nil {
				return err
			}
			d.pairs = append(d.pairs, l)
		case 2:
			c, err := decodeChunk(field.Data)
			if err != nil {
				return err
			}
			d.chunks = append(d.chunks, c)
		}
	}
	if err := fields.Err(); err != nil {
		return err
	}
	return d.buildLabels()
}

// buildLabels copies the pairs, which point into the frame, into a label set
// without the stripped ones.
func (d *decoder) buildLabels() error {
	byName := func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(d.pairs, byName) {
		slices.SortFunc(d.pairs, byName)
	}
	d.builder.Reset()
	for i, p := range d.pairs {
		if i > 0 && d.pairs[i-1].Name == p.Name {
			return fmt.Errorf("%w: %s", errDuplicateLabel, p.Name)
		}
		if v, ok := d.strip[p.Name]; ok && v == p.Value {
			continue
		}
		d.builder.Add(p.Name, p.Value)
	}
	d.labels = d.builder.Labels()
	return nil
}

func decodeLabel(b []byte) (labels.Label, error) {
	var l labels.Label
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		switch field.Number() {
		case 1:
			l.Name = zerocopy.String(field.Data)
		case 2:
			l.Value = zerocopy.String(field.Data)
		}
	}
	if err := fields.Err(); err != nil {
		return l, err
	}
	if l.Name == "" {
		return l, errors.New("a label has no name")
	}
	return l, nil
}

// decodeChunk reads one Chunk and refuses one without encoding or data.
func decodeChunk(b []byte) (Chunk, error) {
	var c Chunk
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		switch field.Number() {
		case 1:
			c.MinTime = int64(field.Num)
		case 2:
			c.MaxTime = int64(field.Num)
		case 3:
			if field.Num > 0xfe {
				return c, fmt.Errorf("chunk encoding %d does not exist", field.Num)
			}
			c.Encoding = chunkenc.Encoding(field.Num)
		case 4:
			c.Bytes = field.Data
		}
	}
	if err := fields.Err(); err != nil {
		return c, err
	}
	if c.Encoding == chunkenc.EncNone || len(c.Bytes) < 2 {
		return c, errors.New("a chunk has no encoding or no data")
	}
	return c, nil
}
