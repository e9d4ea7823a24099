package dedup

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// merged iterates over replicas that are merged by coverage.
type merged struct {
	c coverage
	// cur is the current run, i the sample in it; all before the first.
	cur   run
	i     int
	begun bool
	ended bool
}

// Next implements chunkenc.Iterator.
func (m *merged) Next() chunkenc.ValueType {
	if m.begun && m.i+1 < len(m.cur.t) {
		m.i++
		return m.typ()
	}
	return m.advance()
}

// advance moves to the first sample of the next run.
func (m *merged) advance() chunkenc.ValueType {
	if m.ended {
		return chunkenc.ValNone
	}
	r, ok := m.c.next()
	m.cur, m.i, m.begun, m.ended = r, 0, ok, !ok
	return m.typ()
}

// Seek implements chunkenc.Iterator. It takes every run, so that the result does not
// depend on the times that the reader seeks.
func (m *merged) Seek(t int64) chunkenc.ValueType {
	for !m.ended {
		if n := len(m.cur.t); n > 0 && m.cur.t[n-1] >= t {
			k, _ := slices.BinarySearch(m.cur.t[m.i:], t)
			m.i += k
			break
		}
		m.advance()
	}
	return m.typ()
}

func (m *merged) typ() chunkenc.ValueType {
	if !m.begun {
		return chunkenc.ValNone
	}
	switch h := m.point(); {
	case h == (hist{}):
		return chunkenc.ValFloat
	case h.i != nil:
		return chunkenc.ValHistogram
	}
	return chunkenc.ValFloatHistogram
}

// point is the current histogram, empty for a float.
func (m *merged) point() hist {
	if m.cur.h == nil {
		return hist{}
	}
	return m.cur.h[m.i]
}

// At implements chunkenc.Iterator.
func (m *merged) At() (int64, float64) { return m.cur.t[m.i], m.cur.v[m.i] }

// AtHistogram implements chunkenc.Iterator.
func (m *merged) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	in := m.cur.h[m.i].i
	if h == nil {
		return m.cur.t[m.i], in.Copy()
	}
	in.CopyTo(h)
	return m.cur.t[m.i], h
}

// AtFloatHistogram implements chunkenc.Iterator.
func (m *merged) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	p := m.cur.h[m.i]
	if h == nil {
		h = &histogram.FloatHistogram{}
	}
	if p.f == nil {
		return m.cur.t[m.i], p.i.ToFloat(h)
	}
	p.f.CopyTo(h)
	return m.cur.t[m.i], h
}

// AtT implements chunkenc.Iterator.
func (m *merged) AtT() int64 { return m.cur.t[m.i] }

// AtST implements chunkenc.Iterator.
func (m *merged) AtST() int64 {
	if m.cur.st == nil {
		return 0
	}
	return m.cur.st[m.i]
}

// Err implements chunkenc.Iterator.
func (m *merged) Err() error { return m.c.err() }
