package eval

import (
	"errors"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
)

// histogramSum is the sum or the mean of the histograms of a group at one step.
type histogramSum struct {
	v *histogram.FloatHistogram
	// c is Kahan's compensation, or nil.
	c *histogram.FloatHistogram
	n float64
	// avg is the running mean once the sum has overflowed.
	avg *histogram.FloatHistogram

	reset, noReset bool // hints that were seen
	incompatible   bool // the group has no result
}

func newHistogramSum(h *histogram.FloatHistogram) *histogramSum {
	s := &histogramSum{v: h.Copy(), n: 1}
	s.hint(h)
	return s
}

// broken says that histograms of the group cannot be added. A nil sum is not broken.
func (s *histogramSum) broken() bool { return s != nil && s.incompatible }

func (s *histogramSum) hint(h *histogram.FloatHistogram) {
	s.reset = s.reset || h.CounterResetHint == histogram.CounterReset
	s.noReset = s.noReset || h.CounterResetHint == histogram.NotCounterReset
}

// add adds a histogram of r to a sum.
func (s *histogramSum) add(w *worker, e *parser.AggregateExpr, h *histogram.FloatHistogram, r *row) error {
	s.hint(h)
	c, _, reconciled, err := s.v.KahanAdd(h, s.c)
	s.c = c
	return s.added(w, e, r, reconciled, err)
}

// added handles what an addition has returned.
func (s *histogramSum) added(w *worker, e *parser.AggregateExpr, r *row, reconciled bool, err error) error {
	pos := e.Expr.PositionRange()
	if err != nil {
		if !errors.Is(err, histogram.ErrHistogramsIncompatibleSchema) {
			return unsupported("add histograms: %v", err)
		}
		w.annos.Add(annotations.NewMixedExponentialCustomHistogramsWarning(r.labels.Get(model.MetricNameLabel), pos))
		s.incompatible = true
	}
	if reconciled {
		w.annos.Add(annotations.NewMismatchedCustomBucketsHistogramsInfo(pos, annotations.HistogramAgg))
	}
	return nil
}

// addMean adds a histogram of r to a mean.
func (s *histogramSum) addMean(w *worker, e *parser.AggregateExpr, h *histogram.FloatHistogram, r *row) error {
	s.n++
	s.hint(h)
	if s.avg == nil {
		v := s.v.Copy()
		var c *histogram.FloatHistogram
		if s.c != nil {
			c = s.c.Copy()
		}
		c, _, reconciled, err := v.KahanAdd(h, c)
		if err != nil {
			return s.added(w, e, r, false, err)
		}
		if err := s.added(w, e, r, reconciled, nil); err != nil {
			return err
		}
		if !v.HasOverflow() {
			s.v, s.c = v, c
			return nil
		}
		s.avg = s.v.Copy().Div(s.n - 1)
		if s.c != nil {
			s.c.Div(s.n - 1)
		}
	}
	q := (s.n - 1) / s.n
	if s.c != nil {
		s.c.Mul(q)
	}
	part := h.Copy().Div(s.n)
	c, _, reconciled, err := s.avg.Mul(q).KahanAdd(part, s.c)
	s.c = c
	if err != nil {
		reconciled = false
	}
	return s.added(w, e, r, reconciled, err)
}

// checkHints adds the annotation for histograms that contradict each other.
func (s *histogramSum) checkHints(w *worker, e *parser.AggregateExpr) {
	if s.reset && s.noReset {
		w.annos.Add(annotations.NewHistogramCounterResetCollisionWarning(e.Expr.PositionRange(), annotations.HistogramAgg))
	}
}

// sum returns the sum. It is called once.
func (s *histogramSum) sum(w *worker, e *parser.AggregateExpr) *histogram.FloatHistogram {
	s.checkHints(w, e)
	v := s.v
	if s.c != nil {
		// The additions before have checked the bucket layouts.
		v, _, _, _ = v.Add(s.c)
	}
	return v.Compact(0)
}

// mean returns the mean. It is called once.
func (s *histogramSum) mean(w *worker, e *parser.AggregateExpr) *histogram.FloatHistogram {
	s.checkHints(w, e)
	v := s.avg
	switch {
	case v != nil && s.c != nil:
		v, _, _, _ = v.Add(s.c)
	case v != nil:
	default:
		v = s.v.Div(s.n)
		if s.c != nil {
			v, _, _, _ = v.Add(s.c.Div(s.n))
		}
	}
	return v.Compact(0)
}
