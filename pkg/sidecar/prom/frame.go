package prom

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/protobuf/encoding/protowire"
)

// frame walks over one prometheus.ChunkedReadResponse:
//
//	1  repeated ChunkedSeries
//	2  varint query index (there is only one query)
type frame struct{ rest []byte }

// nextSeries returns the bytes of the next ChunkedSeries, nil at the end.
func (f *frame) nextSeries() ([]byte, error) {
	for len(f.rest) > 0 {
		fl, rest, err := nextField(f.rest)
		if err != nil {
			return nil, err
		}
		f.rest = rest
		if fl.num == 1 {
			if fl.bytes == nil {
				return nil, fmt.Errorf("series is not a message")
			}
			return fl.bytes, nil
		}
	}
	return nil, nil
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
	for len(b) > 0 {
		fl, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		switch fl.num {
		case 1:
			l, err := decodeLabel(fl.bytes)
			if err != nil {
				return err
			}
			d.pairs = append(d.pairs, l)
		case 2:
			c, err := decodeChunk(fl.bytes)
			if err != nil {
				return err
			}
			d.chunks = append(d.chunks, c)
		}
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
	for len(b) > 0 {
		fl, rest, err := nextField(b)
		if err != nil {
			return l, err
		}
		b = rest
		switch fl.num {
		case 1:
			l.Name = borrow(fl.bytes)
		case 2:
			l.Value = borrow(fl.bytes)
		}
	}
	if l.Name == "" {
		return l, errors.New("a label has no name")
	}
	return l, nil
}

func decodeChunk(b []byte) (Chunk, error) {
	var c Chunk
	for len(b) > 0 {
		fl, rest, err := nextField(b)
		if err != nil {
			return c, err
		}
		b = rest
		switch fl.num {
		case 1:
			c.MinTime = int64(fl.varint)
		case 2:
			c.MaxTime = int64(fl.varint)
		case 3:
			if fl.varint > 0xfe {
				return c, fmt.Errorf("chunk encoding %d does not exist", fl.varint)
			}
			c.Encoding = chunkenc.Encoding(fl.varint)
		case 4:
			c.Bytes = fl.bytes
		}
	}
	if c.Encoding == chunkenc.EncNone || len(c.Bytes) < 2 {
		return c, errors.New("a chunk has no encoding or no data")
	}
	return c, nil
}

// field is one protobuf field: a varint or bytes, according to its wire type;
// both are empty for other types.
type field struct {
	num    protowire.Number
	varint uint64
	bytes  []byte
}

func nextField(b []byte) (field, []byte, error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, nil, protowire.ParseError(n)
	}
	fl := field{num: num}
	b = b[n:]
	switch typ {
	case protowire.VarintType:
		fl.varint, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		fl.bytes, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		return field{}, nil, protowire.ParseError(n)
	}
	return fl, b[n:], nil
}

// borrow returns a string that shares the bytes: the caller copies it before
// they can change.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
