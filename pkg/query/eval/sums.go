package eval

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/kahansum"
)

// Kinds of values that a group has at a step, as bits.
const (
	seenFloat = 1 << iota
	seenHistogram
	// mean says that the sum of an average has overflowed, so that the mean is
	// computed step by step.
	mean
)

// plainSum bounds the sums that are far from an overflow in all their parts.
const plainSum = 0x1p1000

// sums is the sum of a group, with Kahan's compensation.
type sums struct {
	e     *parser.AggregateExpr
	seen  []uint8
	v, c  []float64
	hists []*histogramSum // nil without histograms
}

func newSums(e *parser.AggregateExpr, steps int) *sums {
	vc := make([]float64, 2*steps)
	return &sums{e: e, seen: make([]uint8, steps), v: vc[:steps:steps], c: vc[steps:]}
}

func (s *sums) size() int64 { return int64(len(s.v)) * 17 }

// add adds a row. Sums far from an overflow are those of kahansum without a call of it.
func (s *sums) add(w *worker, r *row) error {
	if r.h != nil || s.hists != nil {
		return s.addMixed(w, r)
	}
	sum, c := s.v, s.c[:len(s.v)]
	has, seen, v := r.has[:len(sum)], s.seen[:len(sum)], r.v[:len(sum)]
	for i, x := range v {
		if !has[i] {
			continue
		}
		if seen[i] == 0 {
			seen[i] = seenFloat
			sum[i] = x
			continue
		}
		old := sum[i]
		t := old + x
		if !(math.Abs(t) < plainSum) {
			sum[i], c[i] = kahansum.Inc(x, old, c[i])
			continue
		}
		// The rounding error of an addition is a float, and so the same however it is
		// computed: this way needs no branch (D. Knuth, TAOCP, volume 2, 4.2.2).
		added := t - old
		sum[i] = t
		c[i] += (old - (t - added)) + (x - added)
	}
	return nil
}

// addMixed adds a row when there are histograms in the row or in the group.
func (s *sums) addMixed(w *worker, r *row) error {
	if s.hists == nil {
		s.hists = make([]*histogramSum, len(s.seen))
	}
	for i, ok := range r.has {
		if !ok || s.hists[i].broken() {
			continue
		}
		h := r.histogram(i)
		switch {
		case h == nil && s.seen[i] == 0:
			s.seen[i] = seenFloat
			s.v[i] = r.v[i]
		case h == nil:
			s.seen[i] |= seenFloat
			s.v[i], s.c[i] = kahansum.Inc(r.v[i], s.v[i], s.c[i])
		case s.seen[i] == 0:
			s.seen[i] = seenHistogram
			s.hists[i] = newHistogramSum(h)
		default:
			s.seen[i] |= seenHistogram
			// Behind a float the sum is invalid anyway.
			if s.hists[i] != nil {
				if err := s.hists[i].add(w, s.e, h, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *sums) result(w *worker, out *row) error {
	for i, seen := range s.seen {
		switch seen {
		case 0:
		case seenFloat:
			out.set(i, s.v[i]+s.c[i])
		case seenHistogram:
			if s.hists[i].broken() {
				continue
			}
			out.setHistogram(i, s.hists[i].sum(w, s.e))
		default:
			w.annos.Add(annotations.NewMixedFloatsHistogramsAggWarning(s.e.Expr.PositionRange()))
		}
	}
	return nil
}

// averages is the mean of a group. It is the sum over the count, or where the sum
// overflows, a running mean.
type averages struct {
	sums
	n []float64
}

func newAverages(e *parser.AggregateExpr, steps int) *averages {
	return &averages{sums: *newSums(e, steps), n: make([]float64, steps)}
}

func (a *averages) size() int64 { return int64(len(a.v)) * 25 }

// add adds a row. As in Prometheus's engine, values of both kinds count.
func (a *averages) add(w *worker, r *row) error {
	if r.h != nil && a.hists == nil {
		a.hists = make([]*histogramSum, len(a.seen))
	}
	for i, ok := range r.has {
		if !ok || (a.hists != nil && a.hists[i].broken()) {
			continue
		}
		a.n[i]++
		h := r.histogram(i)
		switch {
		case h == nil && a.seen[i] == 0:
			a.seen[i] = seenFloat
			a.v[i] = r.v[i]
		case h == nil:
			a.seen[i] |= seenFloat
			a.addFloat(i, r.v[i])
		case a.seen[i] == 0:
			a.seen[i] = seenHistogram
			a.hists[i] = newHistogramSum(h)
		default:
			a.seen[i] |= seenHistogram
			if a.hists[i] != nil {
				if err := a.hists[i].addMean(w, a.e, h, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a *averages) addFloat(i int, f float64) {
	n := a.n[i]
	if a.seen[i]&mean == 0 {
		v, c := kahansum.Inc(f, a.v[i], a.c[i])
		if !math.IsInf(v, 0) {
			a.v[i], a.c[i] = v, c
			return
		}
		a.seen[i] |= mean
		a.v[i] /= n - 1
		a.c[i] /= n - 1
	}
	q := (n - 1) / n
	a.v[i], a.c[i] = kahansum.Inc(f/n, q*a.v[i], q*a.c[i])
}

func (a *averages) result(w *worker, out *row) error {
	for i, seen := range a.seen {
		switch {
		case seen == 0:
		case seen&seenFloat != 0 && seen&seenHistogram != 0:
			w.annos.Add(annotations.NewMixedFloatsHistogramsAggWarning(a.e.Expr.PositionRange()))
		case seen&seenHistogram != 0:
			if !a.hists[i].broken() {
				out.setHistogram(i, a.hists[i].mean(w, a.e))
			}
		case seen&mean != 0:
			out.set(i, a.v[i]+a.c[i])
		default:
			out.set(i, a.v[i]/a.n[i]+a.c[i]/a.n[i])
		}
	}
	return nil
}
