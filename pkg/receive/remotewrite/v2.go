package remotewrite

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// symbolTable locates the symbols of a remote write 2.0 request.
type symbolTable struct {
	data  []byte
	spans []symbolSpan
	refs  []uint32 // of the labels of a series
	more  []uint32 // of the labels of an exemplar
}

// symbolSpan locates a symbol; head is where its length begins, so that length
// and symbol are copied in one go.
type symbolSpan struct{ head, start, end uint32 }

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
// not exist, or without samples, are left out and counted in Batch.Rejected.
func TranscodeV2(buf *Buffer, limit int64) (*Batch, error) {
	defer buf.Release()
	t := symbolTables.Get().(*symbolTable)
	defer func() {
		t.data = nil
		if cap(t.refs) > maxKeptRefs {
			t.refs = nil
		}
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
	// Label sets take some ten times the bytes of their references.
	out := NewBuffer(min(16*len(buf.B), int(limit), max(len(buf.B), maxFirstOutput)))
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

// maxKeptRefs bounds the references that stay allocated between requests.
const maxKeptRefs = 1 << 16

// maxFirstOutput bounds the memory that is taken for the result in advance.
const maxFirstOutput = 8 << 20

// Fields of io.prometheus.write.v2.Request and its TimeSeries.
const (
	tagV2Symbols = 4<<3 | protoscan.Bytes
	tagV2Series  = 5<<3 | protoscan.Bytes

	tagV2Refs = 1<<3 | protoscan.Bytes
)

// readSymbols records where the symbols of the request are, without copying them. It
// fails on malformed fields, when the first symbol is not empty, and when the
// request has more symbols than mostParts allows for its size, which bounds the
// memory of the table.
func (t *symbolTable) readSymbols() error {
	most := mostParts(len(t.data), leastSymbol)
	for i := 0; i < len(t.data); {
		tag, next := protoscan.Uvarint(t.data, i)
		if next < 0 || tag>>3 == 0 {
			return malformed("write request: bad field tag")
		}
		if tag == tagV2Symbols {
			start, end := protoscan.Delimited(t.data, next)
			if end < 0 {
				return malformed("write request: symbol longer than the request")
			}
			if len(t.spans) == most {
				return tooDense("symbols", len(t.data))
			}
			t.spans = append(t.spans, symbolSpan{uint32(next), uint32(start), uint32(end)})
			i = end
			continue
		}
		if i = protoscan.Skip(t.data, next, tag); i < 0 {
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
	// skipped are the exemplars and metadata of the current series that cannot be
	// read, which does not concern its samples; skip is the error of the first.
	skipped Rejected
	skip    error
}

// series writes all series of the request.
func (w *v2Writer) series() error {
	n, most := 0, mostParts(len(w.data), leastV2Series)
	fs, f := protoscan.Fields{B: w.data}, protoscan.Field{}
	for fs.Next(&f) {
		if f.Number() <= 3 {
			return Errorf(Invalid, "write request: the body is remote write 1.0, the content type says 2.0")
		}
		if f.Number() != 5 || f.Type() != protoscan.Bytes {
			continue
		}
		before, length := w.batch.counts, len(w.out)
		if n == most {
			return tooDense("series", len(w.data))
		}
		if err := w.one(f.Data); err != nil {
			w.batch.counts, w.out = before, w.out[:length]
			if err := w.leaveOut(n, f.Data, err); err != nil {
				return err
			}
		}
		n++
	}
	if fs.Err() != nil {
		return malformed("write request")
	}
	return nil
}

// leaveOut rejects the series n of the request, msg, if it is invalid; other errors end the
// request.
func (w *v2Writer) leaveOut(n int, msg []byte, err error) error {
	var bad *WriteError
	if !errors.As(err, &bad) || bad.Kind != Invalid {
		return fmt.Errorf("series %d: %w", n, err)
	}
	w.batch.rejected.Add(Invalid, reason.MalformedSeries, 1, func() string {
		return fmt.Sprintf("series %d: %s (series %s)", n, err, Text(w.readable(msg)))
	})
	return nil
}

// maxReadable bounds the labels that an error names of a series, in bytes.
const maxReadable = 64 << 10

// readable returns the labels of a series that have symbols, as label fields, for an error
// that names the series.
func (w *v2Writer) readable(msg []byte) (out []byte) {
	// An error of the references themselves leaves those that were read before it.
	_ = w.collect(msg)
	for i := 0; i+1 < len(w.refs); i += 2 {
		name, ok1 := w.get(w.refs[i])
		value, ok2 := w.get(w.refs[i+1])
		if ok1 && ok2 && len(out)+len(name)+len(value) < maxReadable {
			out = appendLabel(out, name, value)
		}
	}
	return out
}

// one writes a series of the request, msg, in the form of remote write 1.0 to out,
// with its symbols resolved, and records its span in the batch. Messages with the
// usual order of fields are written in one pass; for others the labels are gathered
// first. On an error, out may hold a part of the series, which the caller removes.
func (w *v2Writer) one(msg []byte) error {
	// The length is written when it is known; two bytes are what most need.
	const head = 3
	at := len(w.out)
	w.out = append(w.out, tagSeries, 0, 0)
	before := w.batch.counts
	from, ok := w.usualLabels(msg)
	labels := len(w.out) - at - head
	if ok {
		var err error
		if ok, err = w.rest(msg[from:]); err != nil {
			return err
		}
	}
	if !ok {
		w.out, w.batch.counts = w.out[:at+head], before
		if err := w.labels(msg); err != nil {
			return err
		}
		labels = len(w.out) - at - head
		if _, err := w.rest(msg); err != nil {
			return err
		}
	}
	// The specification wants at least one sample or histogram, but Prometheus
	// sends exemplars as series of their own; refusing these would lose them.
	if w.batch.counts == before {
		if w.skip != nil {
			return w.skip
		}
		return Errorf(Invalid, "the series has neither samples nor histograms")
	}
	w.batch.rejected.join(&w.skipped, w.out[at+head:at+head+labels])
	size := len(w.out) - at - head
	if n := protoscan.UvarintSize(uint64(size)); n != head-1 {
		w.out = append(w.out, make([]byte, max(n-head+1, 0))...)
		copy(w.out[at+1+n:], w.out[at+head:at+head+size])
		w.out = w.out[:at+1+n+size]
	}
	start := at + 1 + binary.PutUvarint(w.out[at+1:], uint64(size))
	w.batch.spans = append(w.batch.spans, span{uint32(at), uint32(start), uint32(start + labels), uint32(start + size)})
	return nil
}

// usualLabels writes the labels of a series in the form that every known sender uses:
// all references packed in the first field. It returns the index after them. ok is
// false when the form is another one or invalid.
func (w *v2Writer) usualLabels(msg []byte) (from int, ok bool) {
	if len(msg) == 0 || msg[0] != tagV2Refs {
		return 0, false
	}
	i, end := protoscan.Delimited(msg, 1)
	if end < 0 || end < len(msg) && msg[end]>>3 == 1 {
		return 0, false
	}
	spans, data, out, refs := w.spans, w.data, w.out, msg[:end]
	for i < end {
		n, next := ref(refs, i)
		if next < 0 || next >= end {
			return 0, false
		}
		v, next := ref(refs, next)
		if next < 0 || n >= uint(len(spans)) || v >= uint(len(spans)) {
			return 0, false
		}
		i = next
		name, value := data[spans[n].head:spans[n].end], data[spans[v].head:spans[v].end]
		size := 2 + len(name) + len(value)
		if int64(len(out)+size)+24 > w.limit {
			return 0, false
		}
		if size < 0x80 {
			out = append(out, tagLabel, byte(size), tagLabelName)
		} else {
			out = append(appendUvarint(append(out, tagLabel), uint64(size)), tagLabelName)
		}
		out = append(append(append(out, name...), tagLabelValue), value...)
	}
	w.out = out
	return end, true
}

// ref reads a reference at i and returns the index after it, or -1.
func ref(b []byte, i int) (uint, int) {
	if b[i] < 0x80 {
		return uint(b[i]), i + 1
	}
	if i+1 < len(b) && b[i+1] < 0x80 {
		return uint(b[i]&0x7f) | uint(b[i+1])<<7, i + 2
	}
	v, next := protoscan.Uvarint(b, i)
	return uint(v), next
}

// room fails when n more bytes would make the result too large. Room for the
// length of the series is kept.
func (w *v2Writer) room(n int) error {
	if int64(len(w.out)+n)+16 > w.limit {
		return &TooLargeError{Size: int64(len(w.out) + n), Limit: w.limit, What: "the request with its symbols written out"}
	}
	return nil
}

// collect gathers the label references of a series, in whatever form they are.
func (w *v2Writer) collect(msg []byte) (err error) {
	w.refs = w.refs[:0]
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		if f.Number() != 1 {
			continue
		}
		if w.refs, err = appendRefs(w.refs, &f); err != nil {
			return err
		}
	}
	if fs.Err() != nil {
		return malformed("series")
	}
	return nil
}

// labels writes the label fields of a series in any form.
func (w *v2Writer) labels(msg []byte) error {
	if err := w.collect(msg); err != nil {
		return err
	}
	size, err := w.labelsSize(w.refs)
	if err != nil {
		return err
	}
	if err := w.room(size); err != nil {
		return err
	}
	for i := 0; i < len(w.refs); i += 2 {
		name, _ := w.get(w.refs[i])
		value, _ := w.get(w.refs[i+1])
		w.out = appendLabel(w.out, name, value)
	}
	return nil
}

func (t *symbolTable) noSymbol(name, value uint32) error {
	return Errorf(Invalid, "label references %d and %d, but the request has %d symbols", name, value, len(t.spans))
}

// rest writes and counts everything but the labels. only is false when there were
// references among the other fields.
func (w *v2Writer) rest(msg []byte) (only bool, err error) {
	only = true
	w.skipped, w.skip = Rejected{}, nil
	c := &w.batch.counts
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for at := 0; fs.Next(&f); at = fs.Offset() {
		if f.Number() == 1 {
			only = false
		}
		if f.Type() != protoscan.Bytes {
			continue
		}
		if err := w.room(len(f.Data) + 16); err != nil {
			return only, err
		}
		switch f.Number() {
		case 2:
			// The same field in both versions.
			w.out = append(w.out, msg[at:fs.Offset()]...)
			c.Samples++
		case 3:
			w.message(tagHistogram, f.Data)
			c.Histograms++
		case 4:
			var ok bool
			if ok, err = w.skippable(w.exemplar, f.Data, reason.MalformedExemplar); ok {
				c.Exemplars++
			}
		case 5:
			_, err = w.skippable(w.metadata, f.Data, reason.MalformedMetadata)
		}
		if err != nil {
			return only, err
		}
	}
	if fs.Err() != nil {
		return only, malformed("series")
	}
	return only, nil
}

// skippable writes an exemplar or the metadata. One that is malformed is skipped
// alone, for the reason why, and the samples beside it are kept; ok is false then.
func (w *v2Writer) skippable(write func(msg []byte) error, msg []byte, why reason.Reason) (ok bool, err error) {
	length := len(w.out)
	err = write(msg)
	if err == nil {
		return true, nil
	}
	if KindOf(err) != Invalid {
		return false, err
	}
	w.out = w.out[:length]
	w.skipped.Add(Invalid, why, 1, err.Error)
	w.skip = cmp.Or(w.skip, err)
	return false, nil
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
			return 0, t.noSymbol(refs[i], refs[i+1])
		}
		n += labelFieldSize(name, value)
	}
	return n, nil
}

// appendRefs reads labels_refs, packed or not.
func appendRefs(refs []uint32, f *protoscan.Field) ([]uint32, error) {
	switch f.Type() {
	case protoscan.Varint:
		return addRef(refs, f.Num)
	case protoscan.Bytes:
		return appendPacked(refs, f.Data)
	}
	return refs, malformed("label references")
}

func appendPacked(refs []uint32, b []byte) ([]uint32, error) {
	for i := 0; i < len(b); {
		v, next := protoscan.Uvarint(b, i)
		if next < 0 {
			return refs, malformed("label references")
		}
		var err error
		if refs, err = addRef(refs, v); err != nil {
			return refs, err
		}
		i = next
	}
	return refs, nil
}

func addRef(refs []uint32, v uint64) ([]uint32, error) {
	if v > 1<<32-1 {
		return refs, Errorf(Invalid, "label reference %d is out of range", v)
	}
	return append(refs, uint32(v)), nil
}

func (w *v2Writer) message(tag byte, msg []byte) {
	w.out = append(w.out, tag)
	w.out = appendUvarint(w.out, uint64(len(msg)))
	w.out = append(w.out, msg...)
}
