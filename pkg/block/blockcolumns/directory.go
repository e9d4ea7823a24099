package blockcolumns

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// A directory, unpacked:
//
//	number of metrics <u32> | number × position of the entry behind the positions <u32>
//	entries in ascending order of the names of their metrics:
//	  name <text> | left out <u8>; if not:
//	  begin of the metric in the object <uvarint>
//	  constants <uvarint> × (name <text>, value <text>) | order <uvarint> × name <text>
//	  segments <uvarint> × (key <text>, series <uvarint>, bytes of chunks <uvarint>, bytes of the index <uvarint>)
//
// A text is its length <uvarint> and its bytes.

// Directory is what an object has, by metric. It is read only.
type Directory struct {
	object    Object
	positions []byte
	entries   []byte
}

// Metric is the series of a metric.
type Metric struct {
	// LeftOut says that the block has series of the metric, and the object has not.
	LeftOut bool
	// Constant are labels that all series have, in ascending order, Order the names of the
	// others. A series may lack some of these.
	Constant []labels.Label
	Order    []string
	Segments []Segment
	// Series counts those of all segments, Chunks has the bytes of all chunks, and Index those of the index
	// of all segments.
	Series        int
	Chunks, Index Span
}

// Segment is a part of a metric. Its series are neighbours in the order of the metric.
type Segment struct {
	// from is the first key that it may have, see keyOf, and until that of the next segment;
	// the last one has none.
	from, until string
	Series      int
	// Chunks are the bytes of the chunks of its series, Index those of the index of them.
	Chunks, Index Span
}

// DirectorySpan is where the directory is.
func (o Object) DirectorySpan() Span { return Span{o.Size - o.Directory, o.Size} }

// ParseDirectory reads the bytes of DirectorySpan.
func ParseDirectory(o Object, b []byte) (*Directory, error) {
	plain, err := unpack(nil, b, maxPlain)
	if err != nil {
		return nil, err
	}
	if len(plain) < 4 {
		return nil, corrupt("a directory of %d bytes", len(plain))
	}
	n := int64(binary.LittleEndian.Uint32(plain))
	if 4+4*n > int64(len(plain)) {
		return nil, corrupt("a directory of %d bytes with %d metrics", len(plain), n)
	}
	return &Directory{object: o, positions: plain[4 : 4+4*n], entries: plain[4+4*n:]}, nil
}

// entry returns the entry of the n-th metric, from its name on.
func (d *Directory) entry(n int) decoder {
	at := int64(binary.LittleEndian.Uint32(d.positions[4*n:]))
	if at > int64(len(d.entries)) {
		return decoder{bad: true}
	}
	return decoder{b: d.entries[at:]}
}

// Metric finds a metric. found is false when the block has no series of it.
func (d *Directory) Metric(name string) (m Metric, found bool, err error) {
	n := len(d.positions) / 4
	i := sort.Search(n, func(i int) bool {
		e := d.entry(i)
		return bytes.Compare(e.text(), []byte(name)) >= 0
	})
	if i == n {
		return Metric{}, false, nil
	}
	e := d.entry(i)
	if got := e.text(); !bytes.Equal(got, []byte(name)) {
		if e.bad {
			return Metric{}, false, corrupt("entry %d of the directory", i)
		}
		return Metric{}, false, nil
	}
	m, err = d.metric(&e)
	return m, err == nil, err
}

// metric reads the rest of an entry, behind the name.
func (d *Directory) metric(e *decoder) (m Metric, err error) {
	if flag := e.bytes(1); e.bad || flag[0] > 1 {
		return m, corrupt("an entry of the directory has no valid flag")
	} else if flag[0] == 1 {
		return Metric{LeftOut: true}, nil
	}
	data := d.object.Size - d.object.Directory
	begin := e.uvarint()
	if begin > uint64(data) {
		return m, corrupt("a metric begins at %d, in %d bytes", begin, data)
	}
	if err := m.readNames(e); err != nil {
		return m, err
	}
	m.Chunks.Off, m.Chunks.End = int64(begin), int64(begin)
	if err := m.readSegments(e); err != nil {
		return m, err
	}
	m.Index.Off, m.Index.End = m.Chunks.End, m.Chunks.End
	for i := range m.Segments {
		s := &m.Segments[i]
		s.Index = Span{m.Index.End, m.Index.End + s.Index.End}
		m.Index.End = s.Index.End
	}
	if m.Index.End > data {
		return m, corrupt("a metric ends at %d, in %d bytes", m.Index.End, data)
	}
	return m, nil
}

// readNames reads the names of labels. Each occurs once, so that label sets can be made of
// them without a look at each.
func (m *Metric) readNames(e *decoder) error {
	constant := e.count()
	for range min(constant, maxLabels) {
		m.Constant = append(m.Constant, labels.Label{Name: string(e.text()), Value: string(e.text())})
	}
	order := e.count()
	for range min(order, maxLabels) {
		m.Order = append(m.Order, string(e.text()))
	}
	if e.bad || constant+order > maxLabels {
		return corrupt("a metric of %d and %d labels", constant, order)
	}
	names, bytes := slices.Clone(m.Order), 0
	for _, l := range m.Constant {
		if l.Value == "" {
			return corrupt("the constant label %.100q has no value", l.Name)
		}
		names, bytes = append(names, l.Name), bytes+len(l.Value)
	}
	slices.Sort(names)
	for i, name := range names {
		if name == "" || name == model.MetricNameLabel || i > 0 && name == names[i-1] {
			return corrupt("a metric has the label %.100q", name)
		}
		bytes += len(name)
	}
	if bytes > maxLabelBytes {
		return corrupt("the names of labels of a metric have %d bytes", bytes)
	}
	return nil
}

// readSegments reads the segments. Their sum cannot overflow: there are 2^16 of 2^40 bytes at
// most.
func (m *Metric) readSegments(e *decoder) error {
	n := e.count()
	if n > maxSegments {
		return corrupt("a metric of %d segments", n)
	}
	for i := range n {
		s := Segment{from: string(e.text())}
		series, chunks, index := e.uvarint(), e.uvarint(), e.uvarint()
		if e.bad || series == 0 || series > maxSegmentSeries || chunks > maxSize ||
			index > min(maxIndex, series*maxSeriesIndex) {
			return corrupt("a segment of %d series, %d bytes of chunks and %d of the index", series, chunks, index)
		}
		switch {
		case len(s.from) > maxKey, i == 0 && s.from != "", i > 0 && s.from <= m.Segments[i-1].from:
			return corrupt("segment %d begins at %.100q", i, s.from)
		case i > 0:
			m.Segments[i-1].until = s.from
		}
		s.Series = int(series)
		s.Chunks = Span{m.Chunks.End, m.Chunks.End + int64(chunks)}
		s.Index = Span{0, int64(index)} // until all chunks are known
		m.Chunks.End = s.Chunks.End
		m.Series += s.Series
		m.Segments = append(m.Segments, s)
	}
	if e.bad {
		return corrupt("the segments of a metric end early")
	}
	return nil
}

// appendMetric appends the entry of a metric.
func appendMetric(b []byte, name string, m *Metric) []byte {
	b = appendText(b, name)
	if m.LeftOut {
		return append(b, 1)
	}
	b = binary.AppendUvarint(append(b, 0), uint64(m.Chunks.Off))
	b = binary.AppendUvarint(b, uint64(len(m.Constant)))
	for _, l := range m.Constant {
		b = appendText(appendText(b, l.Name), l.Value)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Order)))
	for _, name := range m.Order {
		b = appendText(b, name)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Segments)))
	for _, s := range m.Segments {
		b = appendText(b, s.from)
		for _, v := range []int64{int64(s.Series), s.Chunks.Len(), s.Index.Len()} {
			b = binary.AppendUvarint(b, uint64(v))
		}
	}
	return b
}
