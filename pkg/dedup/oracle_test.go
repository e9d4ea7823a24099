package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// sample is a float, or with h a native histogram.
type sample struct {
	t int64
	v float64
	h *histogram.FloatHistogram
}

// listIter iterates over samples by stepping. It counts what it is asked for.
type listIter struct {
	s     []sample
	i     int
	reads int
}

func newListIter(s []sample) *listIter { return &listIter{s: s, i: -1} }

func (l *listIter) typ() chunkenc.ValueType {
	switch {
	case l.i < 0 || l.i >= len(l.s):
		return chunkenc.ValNone
	case l.s[l.i].h != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

func (l *listIter) Next() chunkenc.ValueType {
	if l.i < len(l.s) {
		l.i++
		l.reads++
	}
	return l.typ()
}

func (l *listIter) Seek(t int64) chunkenc.ValueType {
	if l.i < 0 {
		l.Next()
	}
	for l.i < len(l.s) && l.s[l.i].t < t {
		l.Next()
	}
	return l.typ()
}

func (l *listIter) At() (int64, float64) { return l.s[l.i].t, l.s[l.i].v }
func (l *listIter) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: no integer histograms here")
}
func (l *listIter) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return l.s[l.i].t, l.s[l.i].h
}
func (l *listIter) AtT() int64  { return l.s[l.i].t }
func (l *listIter) AtST() int64 { return 0 }
func (l *listIter) Err() error  { return nil }

// The oracle carries out the steps of the penalty algorithm as they are
// written in the contract, one after the other, with nothing saved.

type oracleInput interface {
	chunkenc.Iterator
	adjust(last float64)
}

type oracleLeaf struct {
	*listIter
	errAdjust float64
	counter   bool
}

func (l *oracleLeaf) At() (int64, float64) {
	t, v := l.listIter.At()
	if l.counter && !math.IsNaN(v) {
		v += l.errAdjust
	}
	return t, v
}

func (l *oracleLeaf) adjust(last float64) {
	if !l.counter {
		return
	}
	if _, v := l.At(); last > v {
		l.errAdjust += last - v
	}
}

type oracle struct {
	a, b       oracleInput
	aval, bval chunkenc.ValueType
	lastT      int64
	lastIter   oracleInput
	penA, penB int64
	useA       bool
}

func newOracle(a, b oracleInput) *oracle {
	return &oracle{a: a, b: b, aval: a.Next(), bval: b.Next(), lastT: math.MinInt64, lastIter: a, useA: true}
}

func oracleFold(replicas [][]sample, counter bool) oracleInput {
	var left oracleInput
	for i, r := range replicas {
		leaf := &oracleLeaf{listIter: newListIter(r), counter: counter}
		if i == 0 {
			left = leaf
			continue
		}
		left = newOracle(left, leaf)
	}
	return left
}

func (o *oracle) Next() chunkenc.ValueType {
	prevUseA := o.useA
	var prevV float64
	hasPrev := (o.useA && o.aval == chunkenc.ValFloat) || (!o.useA && o.bval == chunkenc.ValFloat)
	if hasPrev {
		_, prevV = o.lastIter.At()
	}
	typ := o.step()
	if o.useA != prevUseA && hasPrev {
		o.adjust(prevV)
	}
	return typ
}

func (o *oracle) step() chunkenc.ValueType {
	if o.aval != chunkenc.ValNone {
		o.aval = o.a.Seek(o.lastT + 1 + o.penA)
	}
	if o.bval != chunkenc.ValNone {
		o.bval = o.b.Seek(o.lastT + 1 + o.penB)
	}
	if o.aval == chunkenc.ValNone {
		o.useA = false
		if o.bval != chunkenc.ValNone {
			o.lastT, o.lastIter, o.penB = o.b.AtT(), o.b, 0
		}
		return o.bval
	}
	if o.bval == chunkenc.ValNone {
		o.useA = true
		o.lastT, o.lastIter, o.penA = o.a.AtT(), o.a, 0
		return o.aval
	}
	o.useA = o.a.AtT() <= o.b.AtT()
	if o.useA {
		o.penB = o.otherPenalty(o.a.AtT())
		o.penA, o.lastT, o.lastIter = 0, o.a.AtT(), o.a
		return o.aval
	}
	o.penA = o.otherPenalty(o.b.AtT())
	o.penB, o.lastT, o.lastIter = 0, o.b.AtT(), o.b
	return o.bval
}

func (o *oracle) otherPenalty(chosen int64) int64 {
	if o.lastT == math.MinInt64 {
		return 5000
	}
	return 2 * (chosen - o.lastT)
}

func (o *oracle) adjust(last float64) {
	if o.aval == chunkenc.ValFloat {
		o.a.adjust(last)
	}
	if o.bval == chunkenc.ValFloat {
		o.b.adjust(last)
	}
}

func (o *oracle) AtT() int64 {
	if o.useA {
		return o.a.AtT()
	}
	return o.b.AtT()
}

func (o *oracle) Seek(t int64) chunkenc.ValueType {
	for {
		if ts := o.AtT(); ts >= t {
			if o.useA {
				return o.a.Seek(ts)
			}
			return o.b.Seek(ts)
		}
		if o.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
}

func (o *oracle) At() (int64, float64) { return o.lastIter.At() }
func (o *oracle) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return o.lastIter.AtHistogram(h)
}
func (o *oracle) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return o.lastIter.AtFloatHistogram(h)
}
func (o *oracle) AtST() int64 { return 0 }
func (o *oracle) Err() error  { return nil }
