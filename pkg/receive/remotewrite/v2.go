package remotewrite

import (
	"errors"
	"fmt"
	"sync"
)

// symbolTable locates the symbols of a remote write 2.0 request.
type symbolTable struct {
	data  []byte
	spans []symbolSpan
	refs  []uint32
}

type symbolSpan struct{ start, end uint32 }

// symbolTables holds the slices of finished requests for reuse.
var symbolTables = sync.Pool{New: func() any { return new(symbolTable) }}

func (t *symbolTable) get(ref uint32) ([]byte, bool) {
	if uint64(ref) >= uint64(len(t.spans)) {
		return nil, false
	}
	s := t.spans[ref]
	return t.data[s.start:s.end:s.end], true
}

// TranscodeV2 reads an io.prometheus.write.v2.Request and writes its series in
// canonical form into a new batch, without making a string of any symbol. It
// takes over the caller's ownership of buf and releases it. limit bounds the
// size of the result, which a request with long symbols and many references
// could make much larger than itself. Series with references to symbols that do
// not exist, or without samples, are left out and told in Batch.Rejected.
func TranscodeV2(buf *Buffer, limit int64) (*Batch, error) {
	defer buf.Release()
	t := symbolTables.Get().(*symbolTable)
	defer func() {
		t.data = nil
		symbolTables.Put(t)
	}()
	t.data, t.spans = buf.B, t.spans[:0]
	if uint64(len(buf.B)) > 1<<32-1 || limit > 1<<32-1 {
		limit = min(limit, 1<<32-1)
	}
	if int64(len(buf.B)) > limit {
		return nil, &TooLargeError{Size: int64(len(buf.B)), Limit: limit, What: "the decompressed body"}
	}
	if err := t.readSymbols(); err != nil {
		return nil, err
	}
	out := NewBuffer(min(4*len(buf.B), int(limit)))
	b := newBatch(out, nil)
	w := v2Writer{symbolTable: t, batch: b, out: out.B, limit: limit}
	err := w.series()
	out.B, b.data = w.out, w.out
	if err != nil {
		b.Close()
		return nil, err
	}
	b.counts.Series = len(b.spans)
	return b, nil
}

// Fields of io.prometheus.write.v2.Request.
const (
	tagV2Symbols = 4<<3 | wireBytes
	tagV2Series  = 5<<3 | wireBytes
)

func (t *symbolTable) readSymbols() error {
	for i := 0; i < len(t.data); {
		tag, next := uvarint(t.data, i)
		if next < 0 || tag>>3 == 0 {
			return malformed("write request: bad field tag")
		}
		if tag == tagV2Symbols {
			start, end := lenDelim(t.data, next)
			if end < 0 {
				return malformed("write request: symbol longer than the request")
			}
			t.spans = append(t.spans, symbolSpan{uint32(start), uint32(end)})
			i = end
			continue
		}
		if i = skip(t.data, next, tag&7); i < 0 {
			return malformed("write request: bad field")
		}
	}
	if len(t.spans) > 0 && t.spans[0].start != t.spans[0].end {
		return Errorf(Invalid, "write request: the first symbol must be the empty string")
	}
	return nil
}

// v2Writer writes the series of one request.
type v2Writer struct {
	*symbolTable
	batch *Batch
	out   []byte
	limit int64
}

func (w *v2Writer) series() error {
	n := 0
	fs, f := fields{b: w.data}, field{}
	for fs.next(&f) {
		if f.number <= 3 {
			return Errorf(Invalid, "write request: the body is remote write 1.0, the content type says 2.0")
		}
		if f.number != 5 || f.wireType != wireBytes {
			continue
		}
		before := w.batch.counts
		err := w.one(f.data)
		var bad *WriteError
		if errors.As(err, &bad) && bad.Kind == Invalid {
			// Only this series is wrong.
			w.batch.counts = before
			w.batch.rejected.Add(Invalid, "bad series", 1, func() string { return fmt.Sprintf("series %d: %s", n, err) })
			err = nil
		}
		if err != nil {
			return fmt.Errorf("series %d: %w", n, err)
		}
		n++
	}
	if fs.bad {
		return malformed("write request")
	}
	return nil
}

// v2Sizes is what the first pass over a series finds out.
type v2Sizes struct {
	labels, rest int
}

func (w *v2Writer) one(msg []byte) error {
	before := w.batch.counts
	size, err := w.measure(msg)
	if err != nil {
		return err
	}
	// The specification wants at least one sample or histogram, but Prometheus
	// sends exemplars as series of their own; refusing these would lose them.
	if after := w.batch.counts; after.Samples == before.Samples && after.Histograms == before.Histograms &&
		after.Exemplars == before.Exemplars {
		return Errorf(Invalid, "the series has neither samples nor histograms")
	}
	total := size.labels + size.rest
	if int64(len(w.out)+total)+16 > w.limit {
		return &TooLargeError{Size: int64(len(w.out) + total), Limit: w.limit, What: "the request with its symbols written out"}
	}
	var s span
	s.start = uint32(len(w.out))
	w.out = append(w.out, tagSeries)
	w.out = appendUvarint(w.out, uint64(total))
	s.labels = uint32(len(w.out))
	for i := 0; i < len(w.refs); i += 2 {
		name, _ := w.get(w.refs[i])
		value, _ := w.get(w.refs[i+1])
		w.out = appendLabel(w.out, name, value)
	}
	s.rest = uint32(len(w.out))
	w.copyRest(msg)
	s.end = uint32(len(w.out))
	if int(s.rest-s.labels) != size.labels || int(s.end-s.rest) != size.rest {
		panic(fmt.Sprintf("BUG: series of remote write 2.0 measured as %+v, written as %+v", size, s))
	}
	w.batch.spans = append(w.batch.spans, s)
	return nil
}

// measure collects the label references of a series, checks all references and
// computes the size of the canonical form.
func (w *v2Writer) measure(msg []byte) (size v2Sizes, err error) {
	w.refs = w.refs[:0]
	c := &w.batch.counts
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		if f.number == 1 {
			if w.refs, err = appendRefs(w.refs, &f); err != nil {
				return size, err
			}
			continue
		}
		if f.wireType != wireBytes {
			continue
		}
		n := 0
		switch f.number {
		case 2:
			n = len(f.data)
			c.Samples++
		case 3:
			n = len(f.data)
			c.Histograms++
		case 4:
			if n, err = w.exemplarSize(f.data); err != nil {
				return size, err
			}
			c.Exemplars++
		case 5:
			if n, err = w.metadataSize(f.data); err != nil {
				return size, err
			}
		default:
			continue
		}
		size.rest += 1 + uvarintSize(uint64(n)) + n
	}
	if fs.bad {
		return size, malformed("series")
	}
	size.labels, err = w.labelsSize(w.refs)
	return size, err
}

// labelsSize is the size of the label fields for pairs of references.
func (t *symbolTable) labelsSize(refs []uint32) (n int, err error) {
	if len(refs)%2 != 0 {
		return 0, Errorf(Invalid, "odd number of label references: %d", len(refs))
	}
	for i := 0; i < len(refs); i += 2 {
		name, ok1 := t.get(refs[i])
		value, ok2 := t.get(refs[i+1])
		if !ok1 || !ok2 {
			return 0, Errorf(Invalid, "label references %d and %d, but the request has %d symbols", refs[i], refs[i+1], len(t.spans))
		}
		n += labelFieldSize(name, value)
	}
	return n, nil
}

// appendRefs reads labels_refs, packed or not.
func appendRefs(refs []uint32, f *field) ([]uint32, error) {
	add := func(v uint64) error {
		if v > 1<<32-1 {
			return Errorf(Invalid, "label reference %d is out of range", v)
		}
		refs = append(refs, uint32(v))
		return nil
	}
	switch f.wireType {
	case wireVarint:
		return refs, add(f.num)
	case wireBytes:
		for i := 0; i < len(f.data); {
			v, next := uvarint(f.data, i)
			if next < 0 {
				return refs, malformed("label references")
			}
			if err := add(v); err != nil {
				return refs, err
			}
			i = next
		}
		return refs, nil
	}
	return refs, malformed("label references")
}

func (w *v2Writer) copyRest(msg []byte) {
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		if f.wireType != wireBytes {
			continue
		}
		switch f.number {
		case 2:
			w.message(tagSample, f.data)
		case 3:
			w.message(tagHistogram, f.data)
		case 4:
			n, _ := w.exemplarSize(f.data)
			w.out = append(w.out, tagExemplar)
			w.out = appendUvarint(w.out, uint64(n))
			w.exemplar(f.data)
		case 5:
			n, _ := w.metadataSize(f.data)
			w.out = append(w.out, tagSeriesMeta)
			w.out = appendUvarint(w.out, uint64(n))
			w.metadata(f.data)
		}
	}
}

func (w *v2Writer) message(tag byte, msg []byte) {
	w.out = append(w.out, tag)
	w.out = appendUvarint(w.out, uint64(len(msg)))
	w.out = append(w.out, msg...)
}

// exemplarRefs returns the references of an exemplar and its other fields'
// size. Of value and timestamp the tags are the same in both versions.
func (w *v2Writer) exemplarRefs(msg []byte) (refs []uint32, rest int, err error) {
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		switch {
		case f.number == 1:
			if refs, err = appendRefs(refs, &f); err != nil {
				return nil, 0, err
			}
		case f.number == 2 && f.wireType == wireFixed64:
			rest += 9
		case f.number == 3 && f.wireType == wireVarint:
			rest += 1 + uvarintSize(f.num)
		}
	}
	if fs.bad {
		return nil, 0, malformed("exemplar")
	}
	return refs, rest, nil
}

func (w *v2Writer) exemplarSize(msg []byte) (int, error) {
	refs, rest, err := w.exemplarRefs(msg)
	if err != nil {
		return 0, err
	}
	n, err := w.labelsSize(refs)
	if err != nil {
		return 0, fmt.Errorf("exemplar: %w", err)
	}
	return n + rest, nil
}

func (w *v2Writer) exemplar(msg []byte) {
	refs, _, _ := w.exemplarRefs(msg)
	for i := 0; i < len(refs); i += 2 {
		name, _ := w.get(refs[i])
		value, _ := w.get(refs[i+1])
		w.out = appendLabel(w.out, name, value)
	}
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		switch {
		case f.number == 2 && f.wireType == wireFixed64:
			w.out = append(w.out, 2<<3|wireFixed64)
			for i := range 8 {
				w.out = append(w.out, byte(f.num>>(8*i)))
			}
		case f.number == 3 && f.wireType == wireVarint:
			w.out = append(w.out, 3<<3|wireVarint)
			w.out = appendUvarint(w.out, f.num)
		}
	}
}

// v2Metadata is the metadata of a series with its references resolved.
type v2Metadata struct {
	kind       uint64
	help, unit []byte
}

func (w *v2Writer) readMetadata(msg []byte) (m v2Metadata, err error) {
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		if f.wireType != wireVarint {
			continue
		}
		ok := true
		switch f.number {
		case 1:
			m.kind = f.num
		case 3, 4:
			var symbol []byte
			symbol, ok = w.get(uint32(min(f.num, 1<<32-1)))
			if f.number == 3 {
				m.help = symbol
			} else {
				m.unit = symbol
			}
		}
		if !ok {
			return m, Errorf(Invalid, "metadata reference %d, but the request has %d symbols", f.num, len(w.spans))
		}
	}
	if fs.bad {
		return m, malformed("metadata")
	}
	return m, nil
}

func (w *v2Writer) metadataSize(msg []byte) (int, error) {
	m, err := w.readMetadata(msg)
	if err != nil {
		return 0, err
	}
	return 1 + uvarintSize(m.kind) + 1 + uvarintSize(uint64(len(m.help))) + len(m.help) +
		1 + uvarintSize(uint64(len(m.unit))) + len(m.unit), nil
}

func (w *v2Writer) metadata(msg []byte) {
	m, _ := w.readMetadata(msg)
	w.out = append(w.out, 1<<3|wireVarint)
	w.out = appendUvarint(w.out, m.kind)
	w.message(2<<3|wireBytes, m.help)
	w.message(3<<3|wireBytes, m.unit)
}
