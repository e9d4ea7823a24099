package eval

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// subqueryPlan is a function over windows of the results of an expression.
type subqueryPlan struct {
	turn
	inner plan
	f     *rangeFunc
	// rng, step and offset are those of the subquery in milliseconds, at the time of
	// its modifier @.
	rng, step, offset int64
	at                *int64
}

// subqueryCall compiles a function whose argument number index is a subquery.
//
// Prometheus's engine keeps the time of a modifier @ as an offset from the first step of
// the evaluation around it, and does not adapt it to a subquery that begins at that step.
// It then looks at a wrong time if an offset or @ has moved the subquery there, so such
// expressions are left to it.
func (c *compiler) subqueryCall(e *parser.Call, index int, s *parser.SubqueryExpr) (plan, error) {
	if (s.OriginalOffset != 0 || s.Timestamp != nil) && usesAt(s.Expr) {
		return nil, unsupported("modifier @ in a subquery with @ or offset at %s", position(s))
	}
	inner, err := c.vector(s.Expr)
	if err != nil {
		return nil, err
	}
	// Prometheus's engine has such a selector in place of the subquery, too.
	f, err := c.rangeFunc(e, index, &parser.MatrixSelector{
		Range:          s.Range,
		VectorSelector: &parser.VectorSelector{OriginalOffset: s.OriginalOffset, Timestamp: s.Timestamp},
	})
	if err != nil {
		return nil, err
	}
	f.inner = true
	p := &subqueryPlan{inner: inner, f: f, rng: s.Range.Milliseconds(), step: s.Step.Milliseconds(), offset: s.OriginalOffset.Milliseconds(), at: s.Timestamp}
	if p.step == 0 {
		p.step = c.opts.SubqueryInterval(p.rng)
	}
	if p.step <= 0 {
		return nil, unsupported("subquery with step %d at %s", p.step, position(s))
	}
	return p, nil
}

// usesAt says that an expression has a selector or subquery with the modifier @.
func usesAt(e parser.Expr) bool {
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			found = found || n.Timestamp != nil
		case *parser.SubqueryExpr:
			found = found || n.Timestamp != nil
		}
		return nil
	})
	return found
}

func (p *subqueryPlan) nameless() bool { return !p.f.keepsName() || p.inner.nameless() }

// grid returns the times at which the inner expression is evaluated: multiples of
// the step, from the first window's to the last one's. There may be none.
func (p *subqueryPlan) grid(outer grid) (g grid, end int64) {
	first, last := outer.start, outer.at(outer.steps-1)
	if p.at != nil {
		first, last = *p.at, *p.at
	}
	open := first - p.offset - p.rng // exclusive
	end = last - p.offset
	g = grid{start: open / p.step * p.step, step: p.step}
	if g.start <= open {
		g.start += p.step
	}
	if g.start <= end {
		g.steps = int((end-g.start)/p.step) + 1
	}
	g.ranged = g.start != end
	return g, end
}

func (p *subqueryPlan) open(ctx context.Context, sc *scope) (operator, error) {
	kernels, err := p.f.prepare(ctx, sc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var in operator = &rows{}
	g, end := p.grid(sc.grid)
	if g.steps > 0 {
		if in, err = p.inner.open(ctx, p.scope(sc, g, end)); err != nil {
			cancel()
			return nil, err
		}
	}
	l := &leaf{
		sc: sc, turn: p.turn, inner: true, ctx: ctx, cancel: cancel, kernels: kernels,
		oneName: p.inner.nameless(), sealed: !p.inner.nameless(),
		stream: &rowStream{ctx: ctx, in: in, grid: g, whole: !distinctRows(p.inner)},
	}
	l.inline = l.newWorker()
	sc.opened(l)
	return l, nil
}

// scope returns the scope of the inner expression. Each step of sc counts the
// samples of the steps in its window.
func (p *subqueryPlan) scope(sc *scope, g grid, end int64) *scope {
	consumer := stats.SubqueryConsumer{
		Start: sc.grid.start, Interval: sc.grid.step, NumSteps: sc.grid.steps,
		Offset: p.offset, Range: p.rng, AtTimestamp: p.at,
	}
	return sc.child(g, stats.NewChildWithStepTracking(g.start, end, g.step), func(s *stats.QuerySamples) {
		sc.stats.MergeSeriesFromSubquery(s)
		sc.stats.MergeTotalSamplesFromSubquery(s, consumer)
		sc.stats.MergeSamplesReadFromSubquery(s, consumer)
	})
}

// distinctRows says that no two rows of a plan have equal labels.
func distinctRows(p plan) bool {
	switch p := p.(type) {
	case *leafPlan:
		return !p.noName || metricName(p.selector.Matchers) != ""
	case *aggregatePlan:
		return !p.ranks() || distinctRows(p.child)
	case *chainPlan:
		if l, ok := p.child.(*leafPlan); ok && metricName(l.selector.Matchers) != "" {
			return !p.fn.relabels()
		}
		return !p.fn.relabels() && distinctRows(p.child) && (!p.fn.dropsName() || p.child.nameless())
	}
	return false
}

// ranks says that the result has series of the child.
func (p *aggregatePlan) ranks() bool { return p.e.Op == parser.TOPK || p.e.Op == parser.BOTTOMK }

// rowStream is a stream of rows as series.
type rowStream struct {
	ctx  context.Context
	in   operator
	grid grid
	// whole says that rows with equal labels have to be joined, after all are read.
	whole  bool
	joined *rows
	cur    *row
	err    error
}

// Next implements SeriesStream.
func (s *rowStream) Next() bool {
	if s.err == nil && s.whole {
		s.whole = false
		var list []*row
		if list, s.err = joinParts(s.ctx, s.in); s.err == nil {
			s.joined = &rows{list: list}
		}
	}
	from := s.in
	if s.joined != nil {
		from = s.joined
	}
	if s.err == nil {
		s.cur, s.err = from.next(s.ctx)
	}
	return s.err == nil && s.cur != nil
}

func (s *rowStream) At() Series { return &rowSeries{s.cur, s.grid} }
func (s *rowStream) Err() error { return s.err }

func (*rowStream) Warnings() annotations.Annotations { return nil }

func (s *rowStream) Close() error { return s.in.close() }

// joinParts reads an operator to its end, and joins rows with equal labels.
func joinParts(ctx context.Context, op operator) ([]*row, error) {
	list, err := readAll(ctx, op)
	if err != nil {
		return nil, err
	}
	index := make(map[uint64]int, len(list))
	kept := list[:0]
	for _, r := range list {
		h := r.labels.Hash()
		i, ok := index[h]
		switch {
		case !ok:
			index[h] = len(kept)
			kept = append(kept, r)
		case !labels.Equal(kept[i].labels, r.labels):
			return nil, unsupported("labels with equal hashes %s and %s", kept[i].labels, r.labels)
		default:
			if err := kept[i].join(r); err != nil {
				return nil, err
			}
			r.release()
		}
	}
	return kept, nil
}

// join adds the values of another row with equal labels.
func (r *row) join(o *row) error {
	for i, ok := range o.has {
		if !ok {
			continue
		}
		if r.has[i] {
			return unsupported("two samples with labels %s at one time", r.labels)
		}
		if h := o.histogram(i); h != nil {
			r.setHistogram(i, h)
		} else {
			r.set(i, o.v[i])
		}
	}
	return nil
}

// rowSeries is a row as a series.
type rowSeries struct {
	row  *row
	grid grid
}

func (s *rowSeries) Labels() labels.Labels { return s.row.labels }
func (s *rowSeries) Release()              { s.row.release() }

// Decode implements Series. Histograms lose what they say about counter resets,
// which is about the sample before them in storage.
func (s *rowSeries) Decode(dst *Samples) error {
	r, g := s.row, s.grid
	dst.T, dst.V, dst.H = dst.T[:0], dst.V[:0], nil
	if r.h != nil {
		dst.H = make([]*histogram.FloatHistogram, 0, r.n)
	}
	for i, ok := range r.has {
		if !ok {
			continue
		}
		dst.T, dst.V = append(dst.T, g.at(i)), append(dst.V, r.v[i])
		if r.h == nil {
			continue
		}
		h := r.h[i]
		if h != nil && (h.CounterResetHint == histogram.NotCounterReset || h.CounterResetHint == histogram.CounterReset) {
			c := *h
			c.CounterResetHint = histogram.UnknownCounterReset
			h = &c
		}
		dst.H = append(dst.H, h)
	}
	return nil
}
