package eval

import (
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"
)

// elementOp is a binary operator on two samples.
type elementOp struct {
	op  parser.ItemType
	pos posrange.PositionRange
	// boolean is the modifier bool of a comparison.
	boolean bool
}

// renames says whether results have no metric name.
func (o elementOp) renames() bool {
	switch o.op {
	case parser.ADD, parser.SUB, parser.DIV, parser.MUL, parser.POW, parser.MOD, parser.ATAN2:
		return true
	}
	return o.boolean
}

// trims says whether o cuts the buckets of a histogram.
func (o elementOp) trims() bool { return o.op == parser.TRIM_LOWER || o.op == parser.TRIM_UPPER }

// compare is the comparison of two floats; ok is false when o is none.
func (o elementOp) compare() (f func(l, r float64) bool, ok bool) {
	switch o.op {
	case parser.EQLC:
		return func(l, r float64) bool { return l == r }, true
	case parser.NEQ:
		return func(l, r float64) bool { return l != r }, true
	case parser.GTR:
		return func(l, r float64) bool { return l > r }, true
	case parser.LSS:
		return func(l, r float64) bool { return l < r }, true
	case parser.GTE:
		return func(l, r float64) bool { return l >= r }, true
	case parser.LTE:
		return func(l, r float64) bool { return l <= r }, true
	}
	return nil, false
}

// arithmetic computes dst from floats of equal number. dst may be one of them.
func (o elementOp) arithmetic(dst, l, r []float64) {
	l, r = l[:len(dst)], r[:len(dst)]
	switch o.op {
	case parser.ADD:
		for i := range dst {
			dst[i] = l[i] + r[i]
		}
	case parser.SUB:
		for i := range dst {
			dst[i] = l[i] - r[i]
		}
	case parser.MUL:
		for i := range dst {
			dst[i] = l[i] * r[i]
		}
	case parser.DIV:
		for i := range dst {
			dst[i] = l[i] / r[i]
		}
	case parser.POW:
		for i := range dst {
			dst[i] = math.Pow(l[i], r[i])
		}
	case parser.MOD:
		for i := range dst {
			dst[i] = math.Mod(l[i], r[i])
		}
	case parser.ATAN2:
		for i := range dst {
			dst[i] = math.Atan2(l[i], r[i])
		}
	}
}

// floats applies o to floats. Where has is true there is a pair; it becomes false
// where a comparison does not hold, unless o is boolean. kept is the value of a
// sample that a comparison keeps. dst may be any of the others.
func (o elementOp) floats(dst, l, r, kept []float64, has []bool) {
	holds, ok := o.compare()
	if !ok {
		o.arithmetic(dst, l, r)
		return
	}
	for i := range dst {
		if !has[i] {
			continue
		}
		switch yes := holds(l[i], r[i]); {
		case !o.boolean:
			has[i] = yes
			dst[i] = kept[i]
		case yes:
			dst[i] = 1
		default:
			dst[i] = 0
		}
	}
}

// sample is a float, or a histogram when h is not nil.
type sample struct {
	f float64
	h *histogram.FloatHistogram
}

// opResult is the result of an operator for two samples.
type opResult struct {
	sample
	// keep is false when a comparison does not hold.
	keep bool
	// invalid means that there is no result, with the reason in note.
	invalid bool
	// note is an annotation, or an error of histograms.
	note error
}

// apply evaluates o for two samples of any kind.
func (o elementOp) apply(l, r sample) opResult {
	switch {
	case l.h == nil && r.h == nil:
		return o.applyFloats(l, r)
	case l.h != nil && r.h != nil:
		return o.applyHistograms(l.h, r.h)
	case l.h == nil:
		if o.op == parser.MUL {
			return opResult{sample: sample{h: r.h.Copy().Mul(l.f).Compact(0)}, keep: true}
		}
		return o.incompatible("float", "histogram")
	}
	switch o.op {
	case parser.MUL:
		return opResult{sample: sample{h: l.h.Copy().Mul(r.f).Compact(0)}, keep: true}
	case parser.DIV:
		return opResult{sample: sample{h: l.h.Copy().Div(r.f).Compact(0)}, keep: true}
	case parser.TRIM_UPPER, parser.TRIM_LOWER:
		return opResult{sample: sample{h: l.h.Copy().TrimBuckets(r.f, o.op == parser.TRIM_UPPER)}, keep: true}
	}
	return o.incompatible("histogram", "float")
}

func (o elementOp) applyFloats(l, r sample) opResult {
	if o.trims() {
		return o.incompatible("float", "float")
	}
	if holds, ok := o.compare(); ok {
		return opResult{sample: l, keep: holds(l.f, r.f)}
	}
	var dst [1]float64
	o.arithmetic(dst[:], []float64{l.f}, []float64{r.f})
	return opResult{sample: sample{f: dst[0]}, keep: true}
}

// applyHistograms evaluates o for two histograms, which stay as they are.
func (o elementOp) applyHistograms(l, r *histogram.FloatHistogram) opResult {
	var (
		res                   *histogram.FloatHistogram
		collision, reconciled bool
		err                   error
		name                  annotations.HistogramOperation
	)
	switch o.op {
	case parser.EQLC, parser.NEQ:
		return opResult{sample: sample{h: l}, keep: l.Equals(r) == (o.op == parser.EQLC)}
	case parser.ADD:
		name = annotations.HistogramAdd
		res, collision, reconciled, err = l.Copy().Add(r)
	case parser.SUB:
		name = annotations.HistogramSub
		res, collision, reconciled, err = l.Copy().Sub(r)
		if err == nil {
			res.CounterResetHint = histogram.GaugeType
		}
	default:
		return o.incompatible("histogram", "histogram")
	}
	switch {
	case err != nil:
		return opResult{invalid: true, note: err}
	case collision:
		return opResult{invalid: true, note: annotations.NewHistogramCounterResetCollisionWarning(o.pos, name)}
	}
	out := opResult{sample: sample{h: res.Compact(0)}, keep: true}
	if reconciled {
		out.note = annotations.NewMismatchedCustomBucketsHistogramsInfo(o.pos, name)
	}
	return out
}

func (o elementOp) incompatible(left, right string) opResult {
	return opResult{invalid: true, note: annotations.NewIncompatibleTypesInBinOpInfo(left, parser.ItemTypeStr[o.op], right, o.pos)}
}

// annotation turns a note of an opResult into an annotation. It is ErrUnsupported
// as an error when the note ends the query.
func (o elementOp) annotation(note error) (annotation, err error) {
	switch {
	case errors.Is(note, annotations.PromQLInfo) || errors.Is(note, annotations.PromQLWarning):
		return note, nil
	case errors.Is(note, histogram.ErrHistogramsIncompatibleSchema):
		return annotations.NewIncompatibleBucketLayoutInBinOpWarning(parser.ItemTypeStr[o.op], o.pos), nil
	}
	return nil, unsupported("histograms that %s does not take: %v", parser.ItemTypeStr[o.op], note)
}

// lastNotes holds the last note of each step: Prometheus's engine gives an
// annotation for that one only.
type lastNotes struct {
	turn  turn
	steps int
	notes []error
}

func (n *lastNotes) set(step int, note error) {
	if n.notes == nil {
		n.notes = make([]error, n.steps)
	}
	n.notes[step] = note
}

// report adds the annotations to the result, in the order of the steps.
func (n *lastNotes) report(o elementOp, sc *scope) error {
	var annos annotations.Annotations
	for _, note := range n.notes {
		if note == nil {
			continue
		}
		a, err := o.annotation(note)
		if err != nil {
			return err
		}
		annos.Add(a)
	}
	sc.annotate(n.turn, annos)
	return nil
}
