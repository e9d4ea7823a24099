package blockcolumns

import (
	"encoding/binary"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// The index of a segment, unpacked, has for each series in order:
//
//	leading labels of the order whose values are those of the series before <uvarint>
//	the values of the others: 0 <uvarint> and a value <text> that is new in the segment, or n <uvarint> for the n-th new one
//	bytes of its chunks <uvarint>
const (
	// segmentSeries is how many series a writer puts into a segment, maxSegmentSeries what a
	// reader accepts.
	segmentSeries    = 256
	maxSegmentSeries = 1 << 16
)

// indexEncoder encodes the index of a segment.
type indexEncoder struct {
	b      []byte
	known  map[string]uint64
	before []string
}

func (e *indexEncoder) reset() {
	e.b, e.before = e.b[:0], e.before[:0]
	e.known = map[string]uint64{}
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
	metric   string
	m        *Metric
	matchers []*labels.Matcher
	// of each label of the order: the matchers, and whether the value of the series matches
	// and all values before it do.
	byLabel [][]*labels.Matcher
	values  []string
	matches []bool
	plain   []byte
	known   []string
	builder labels.ScratchBuilder
}

// Search prepares a search in the segments of a metric. Matchers on its name are not needed; they
// see the labels that the series have in the block. ok is false when no series can match.
func (m *Metric) Search(name string, ms []*labels.Matcher) (s *Searcher, ok bool) {
	s = &Searcher{
		metric: name, m: m, byLabel: make([][]*labels.Matcher, len(m.Order)), values: make([]string, len(m.Order)),
		matches: make([]bool, len(m.Order)), builder: labels.NewScratchBuilder(len(m.Order) + len(m.Constant) + 1),
	}
	for _, matcher := range ms {
		if i := indexOf(m.Order, matcher.Name); i >= 0 {
			s.byLabel[i] = append(s.byLabel[i], matcher)
			continue
		}
		value := ""
		if matcher.Name == labels.MetricName {
			value = name
		}
		for _, l := range m.Constant {
			if l.Name == matcher.Name {
				value = l.Value
			}
		}
		if !matcher.Matches(value) {
			return nil, false
		}
	}
	return s, true
}

func indexOf(names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	return -1
}

// Append appends the series of a segment that match, in the order of the segment, to which b
// belongs, the bytes of its index.
func (s *Searcher) Append(out []Found, seg Segment, b []byte) ([]Found, error) {
	var err error
	if s.plain, err = unpack(s.plain, b, maxIndex); err != nil {
		return out, err
	}
	d := decoder{b: s.plain}
	s.known = s.known[:0]
	at, filled := seg.Chunks.Off, 0
	for range seg.Series {
		same := d.uvarint()
		if same > uint64(filled) {
			return out, corrupt("a series shares %d labels with the one before", same)
		}
		for i := int(same); i < len(s.values); i++ {
			if s.values[i], err = s.value(&d); err != nil {
				return out, err
			}
			s.matches[i] = (i == 0 || s.matches[i-1]) && matchAll(s.byLabel[i], s.values[i])
		}
		filled = len(s.values)
		n := d.uvarint()
		if d.bad || n > maxPiece || int64(n) > seg.Chunks.End-at {
			return out, corrupt("the index of a segment ends early, or its chunks do")
		}
		if filled == 0 || s.matches[filled-1] {
			lset, err := s.labels()
			if err != nil {
				return out, err
			}
			out = append(out, Found{Labels: lset, Chunks: Span{at, at + int64(n)}})
		}
		at += int64(n)
	}
	if len(d.b) > 0 || at != seg.Chunks.End {
		return out, corrupt("the index of a segment does not fit to its chunks")
	}
	return out, nil
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

// labels makes the label set of the series.
func (s *Searcher) labels() (labels.Labels, error) {
	s.builder.Reset()
	if s.metric != "" {
		s.builder.Add(labels.MetricName, s.metric)
	}
	for _, l := range s.m.Constant {
		s.builder.Add(l.Name, l.Value)
	}
	for i, name := range s.m.Order {
		if s.values[i] != "" {
			s.builder.Add(name, strings.Clone(s.values[i]))
		}
	}
	s.builder.Sort()
	lset := s.builder.Labels()
	before, first := "", true
	err := lset.Validate(func(l labels.Label) error {
		if l.Name == "" || !first && l.Name <= before || len(l.Name) > zerocopy.MaxPart || len(l.Value) > zerocopy.MaxPart {
			return corrupt("a series has the label %.100q after %.100q", l.Name, before)
		}
		before, first = l.Name, false
		return nil
	})
	return lset, err
}
