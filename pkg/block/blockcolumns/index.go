package blockcolumns

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// The index of a segment, unpacked, has for each series in order:
//
//	leading labels of the order whose values are those of the series before <uvarint>
//	the values of the others: 0 <uvarint> and a value <text> that is new in the segment, or n <uvarint> for the n-th new one
//	bytes of its chunks <uvarint>
//
// The series stand in strictly ascending order of their keys, so the first value that differs
// from that of the series before is a greater one.
const (
	// segmentSeries is how many series a writer puts into a segment, maxSegmentSeries what a
	// reader accepts.
	segmentSeries    = 256
	maxSegmentSeries = 1 << 12
)

// indexEncoder encodes the index of a segment.
type indexEncoder struct {
	b      []byte
	known  map[string]uint64
	before []string
}

func (e *indexEncoder) reset() {
	e.b, e.before = e.b[:0], e.before[:0]
	if e.known == nil {
		e.known = map[string]uint64{}
	}
	clear(e.known)
}

// add adds a series with its values in the order of the metric.
func (e *indexEncoder) add(values []string, bytes int64) {
	same := 0
	for same < len(e.before) && e.before[same] == values[same] {
		same++
	}
	e.b = binary.AppendUvarint(e.b, uint64(same))
	for _, v := range values[same:] {
		n := e.known[v]
		e.b = binary.AppendUvarint(e.b, n)
		if n == 0 {
			e.b = appendText(e.b, v)
			e.known[v] = uint64(len(e.known) + 1)
		}
	}
	e.b = binary.AppendUvarint(e.b, uint64(bytes))
	e.before = append(e.before[:0], values...)
}

// Found is a series of a segment.
type Found struct {
	// Labels are those in the block.
	Labels labels.Labels
	// Chunks are the bytes for DecodeChunks.
	Chunks Span
}

// Searcher finds series in the indexes of segments. It keeps memory between them, and is used by
// one goroutine.
type Searcher struct {
	// parts are all labels that series may have, in ascending order of their names.
	parts []part
	// of each label of the order: the matchers, the value of the series, and whether it
	// matches and all values before it do.
	byLabel [][]*labels.Matcher
	values  []string
	matches []bool
	plain   []byte
	known   []string // values of the segment, in plain
	encoded []byte   // of a label set
}

// part is a label of the series of a metric.
type part struct {
	name string
	// value is that of all series if order, the place in the order of the metric, is -1.
	value string
	order int
}

// Search prepares a search in the segments of a metric. Matchers on its name are not needed; they
// see the labels that the series have in the block. ok is false when no series can match.
func (m *Metric) Search(name string, ms []*labels.Matcher) (s *Searcher, ok bool) {
	s = &Searcher{
		parts: []part{{model.MetricNameLabel, name, -1}}, byLabel: make([][]*labels.Matcher, len(m.Order)),
		values: make([]string, len(m.Order)), matches: make([]bool, len(m.Order)),
	}
	for _, l := range m.Constant {
		s.parts = append(s.parts, part{l.Name, l.Value, -1})
	}
	for _, matcher := range ms {
		if i := slices.Index(m.Order, matcher.Name); i >= 0 {
			s.byLabel[i] = append(s.byLabel[i], matcher)
			continue
		}
		value := ""
		if i := slices.IndexFunc(s.parts, func(p part) bool { return p.name == matcher.Name }); i >= 0 {
			value = s.parts[i].value
		}
		if !matcher.Matches(value) {
			return nil, false
		}
	}
	for i, name := range m.Order {
		s.parts = append(s.parts, part{name, "", i})
	}
	slices.SortFunc(s.parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	return s, true
}

// Append appends the series of a segment that match, in the order of the segment, to which b
// belongs, the bytes of its index. The labels of a series have at most 8 KiB. On error out
// stays as it was.
func (s *Searcher) Append(out []Found, seg Segment, b []byte) ([]Found, error) {
	first := len(out)
	var err error
	if s.plain, err = unpack(s.plain, b, maxIndex); err != nil {
		return out, err
	}
	d := decoder{b: s.plain}
	s.known = s.known[:0]
	at := seg.Chunks.Off
	for i := range seg.Series {
		if err := s.next(&d, i == 0); err != nil {
			return out[:first], err
		}
		if i == 0 && s.key() < seg.from || i == seg.Series-1 && seg.until != "" && s.key() >= seg.until {
			return out[:first], corrupt("a series is not in the range of its segment")
		}
		n := d.uvarint()
		if d.bad || n > maxPiece {
			return out[:first], corrupt("the index of a segment ends early, or a series has %d bytes", n)
		}
		if len(s.matches) == 0 || s.matches[len(s.matches)-1] {
			lset, err := s.labels()
			if err != nil {
				return out[:first], err
			}
			out = append(out, Found{Labels: lset, Chunks: Span{at, at + int64(n)}})
		}
		at += int64(n)
	}
	if len(d.b) > 0 || at != seg.Chunks.End {
		return out[:first], corrupt("the index of a segment does not fit to its chunks")
	}
	return out, nil
}

// next reads the values of the next series, or of the first one.
func (s *Searcher) next(d *decoder, first bool) (err error) {
	same, before := int(min(d.uvarint(), maxLabels)), ""
	switch {
	case first && same > 0, !first && same >= len(s.values):
		return corrupt("a series shares %d of %d labels with the one before", same, len(s.values))
	case !first:
		before = s.values[same]
	}
	for i := same; i < len(s.values); i++ {
		if s.values[i], err = s.value(d); err != nil {
			return err
		}
		s.matches[i] = (i == 0 || s.matches[i-1]) && matchAll(s.byLabel[i], s.values[i])
	}
	if !first && s.values[same] <= before {
		return corrupt("a series has the value %.100q after %.100q", s.values[same], before)
	}
	size := 0
	for _, v := range s.values {
		size += len(v) + len(end)
	}
	if size > maxKey { // matchers look at the values of each series, and many may refer to the same
		return corrupt("the values of a series have %d bytes", size)
	}
	return nil
}

// key returns the key of the series.
func (s *Searcher) key() string {
	var b strings.Builder
	for _, v := range s.values {
		b.WriteString(v)
		b.WriteString(end)
	}
	return b.String()
}

func matchAll(ms []*labels.Matcher, value string) bool {
	for _, m := range ms {
		if !m.Matches(value) {
			return false
		}
	}
	return true
}

// value reads a value. It is valid until the next segment.
func (s *Searcher) value(d *decoder) (string, error) {
	n := d.uvarint()
	if n > uint64(len(s.known)) {
		return "", corrupt("value %d of %d", n, len(s.known))
	}
	if n > 0 {
		return s.known[n-1], nil
	}
	v := zerocopy.String(d.text())
	s.known = append(s.known, v)
	return v, nil
}

// labels makes the label set of the series, in memory of its own.
func (s *Searcher) labels() (labels.Labels, error) {
	b, size := s.encoded[:0], 0
	for _, p := range s.parts {
		v := p.value
		if p.order >= 0 {
			v = s.values[p.order]
		}
		if v == "" {
			continue
		}
		if size += len(p.name) + len(v); size > maxLabelBytes {
			return labels.EmptyLabels(), corrupt("the labels of a series have more than %d bytes", maxLabelBytes)
		}
		b = zerocopy.AppendPart(zerocopy.AppendPart(b, zerocopy.Bytes(p.name)), zerocopy.Bytes(v))
	}
	s.encoded = b
	return zerocopy.Labels(bytes.Clone(b)), nil
}
