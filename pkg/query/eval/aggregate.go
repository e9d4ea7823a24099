package eval

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/util/annotations"
)

// aggregatePlan is an aggregation.
type aggregatePlan struct {
	turn
	e     *parser.AggregateExpr
	child plan
	// param is nil for aggregations without one, and for count_values.
	param scalarPlan
	// constant says that the parameter is a number in the query.
	constant bool
	// grouping is sorted, and has the labels to drop when e.Without is set.
	grouping []string
	// valueLabel is the label of count_values.
	valueLabel string
}

// aggregate compiles an aggregation.
func (c *compiler) aggregate(e *parser.AggregateExpr) (plan, error) {
	p := &aggregatePlan{e: e, grouping: slices.Clone(e.Grouping)}
	var err error
	switch e.Op {
	case parser.SUM, parser.AVG, parser.COUNT, parser.GROUP, parser.MIN, parser.MAX, parser.STDDEV, parser.STDVAR:
	case parser.QUANTILE, parser.TOPK, parser.BOTTOMK:
		if p.param, err = c.scalar(e.Param); err != nil {
			return nil, err
		}
		_, p.constant = e.Param.(*parser.NumberLiteral)
	case parser.COUNT_VALUES:
		if p.valueLabel, err = valueLabel(e); err != nil {
			return nil, err
		}
		if !e.Without {
			p.grouping = append(p.grouping, p.valueLabel)
		}
	default:
		return nil, unsupported("aggregation %s at %s", e.Op, position(e))
	}
	if e.Without {
		p.grouping = append(p.grouping, model.MetricNameLabel, model.MetricTypeLabel, model.MetricUnitLabel)
	}
	slices.Sort(p.grouping)
	p.child, err = c.vector(e.Expr)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *aggregatePlan) nameless() bool {
	if p.e.Op == parser.TOPK || p.e.Op == parser.BOTTOMK {
		return p.child.nameless()
	}
	return p.e.Without || !slices.ContainsFunc(p.grouping, schema.IsMetadataLabel)
}

func (p *aggregatePlan) open(ctx context.Context, sc *scope) (operator, error) {
	a := &aggregation{sc: sc, plan: p, w: newWorker(ctx, sc, p.turn, true)}
	if p.param != nil {
		var err error
		if a.params, err = p.param.values(ctx, sc); err != nil {
			return nil, err
		}
	}
	op, err := p.child.open(ctx, sc)
	if err != nil {
		return nil, err
	}
	a.op = op
	a.grouper = grouper{without: p.e.Without, names: p.grouping}
	if p.e.Op == parser.COUNT_VALUES {
		return &valueCounts{aggregation: a, builder: labels.NewBuilder(labels.EmptyLabels())}, nil
	}
	if p.e.Op == parser.TOPK || p.e.Op == parser.BOTTOMK {
		return &ranking{aggregation: a, reverse: p.e.Op == parser.BOTTOMK}, nil
	}
	return a, nil
}

// aggregation consumes the series of an operator into groups. It returns the groups
// in the order in which their first series came.
type aggregation struct {
	sc     *scope
	plan   *aggregatePlan
	op     operator
	w      *worker
	params []float64
	grouper
	groups []accumulator
	full   bool // all series are consumed
	out    int  // the next group to return
}

// accumulator has the values of one group at all steps. The series are added in
// the order of Prometheus's engine.
type accumulator interface {
	add(w *worker, r *row) error
	// result sets the values of out, which has none.
	result(w *worker, out *row) error
	// size is the memory in bytes.
	size() int64
}

// next returns the groups that have values, after all series are consumed.
func (a *aggregation) next(ctx context.Context) (*row, error) {
	if !a.full {
		if err := a.consume(ctx); err != nil {
			return nil, err
		}
		a.full = true
	}
	for a.out < len(a.groups) {
		i := a.out
		a.out++
		r, err := a.sc.pool.get(ctx)
		if err != nil {
			return nil, err
		}
		r.labels = a.grouper.labels[i]
		if err := a.groups[i].result(a.w, r); err != nil {
			return nil, err
		}
		a.groups[i] = nil
		if r.n > 0 {
			return r, nil
		}
		r.release()
	}
	return nil, nil
}

// consume adds all series to their groups, and charges the memory of new groups.
func (a *aggregation) consume(ctx context.Context) error {
	if a.plan.e.Op == parser.QUANTILE {
		a.checkQuantile()
	}
	for {
		r, err := a.op.next(ctx)
		if r == nil || err != nil {
			return err
		}
		i := a.grouper.group(r.labels)
		if i == len(a.groups) {
			a.groups = append(a.groups, a.newGroup())
			if err := a.sc.charge(ctx, a.groups[i].size()); err != nil {
				return err
			}
			a.sc.hold(int64(a.sc.grid.steps))
		}
		var before int64
		grows := a.plan.e.Op == parser.QUANTILE
		if grows {
			before = a.groups[i].size()
		}
		if err := a.groups[i].add(a.w, r); err != nil {
			return err
		}
		if grows {
			if err := a.sc.charge(ctx, a.groups[i].size()-before); err != nil {
				return err
			}
		}
		r.release()
	}
}

func (a *aggregation) newGroup() accumulator {
	steps, e := a.sc.grid.steps, a.plan.e
	switch e.Op {
	case parser.SUM:
		return newSums(e, steps)
	case parser.AVG:
		return newAverages(e, steps)
	case parser.MIN, parser.MAX:
		return newExtremes(e, steps)
	case parser.STDDEV, parser.STDVAR:
		return newDeviations(e, steps)
	case parser.QUANTILE:
		return &quantiles{e: e, q: a.params, values: make([][]float64, steps)}
	default:
		return &counts{group: e.Op == parser.GROUP, n: make([]float64, steps)}
	}
}

// checkQuantile adds the annotations for quantiles that are none.
func (a *aggregation) checkQuantile() {
	lo, hi, anyNaN := a.bounds()
	pos := a.plan.e.Param.PositionRange()
	if anyNaN {
		a.w.annos.Add(annotations.NewInvalidQuantileWarning(math.NaN(), pos))
	}
	if hi > 1 {
		a.w.annos.Add(annotations.NewInvalidQuantileWarning(hi, pos))
	}
	if lo < 0 {
		a.w.annos.Add(annotations.NewInvalidQuantileWarning(lo, pos))
	}
}

// bounds returns the least and the greatest parameter. Where one is NaN, these are
// NaN too.
func (a *aggregation) bounds() (lo, hi float64, anyNaN bool) {
	lo, hi = math.MaxFloat64, -math.MaxFloat64
	if a.plan.constant {
		lo, hi = a.params[0], a.params[0]
	}
	for _, v := range a.params {
		lo, hi = math.Min(lo, v), math.Max(hi, v)
		anyNaN = anyNaN || math.IsNaN(v)
	}
	return lo, hi, anyNaN
}

func (a *aggregation) close() error {
	a.w.flush()
	return a.op.close()
}

// grouper numbers groups of series.
type grouper struct {
	without bool
	names   []string // sorted
	index   map[string]int
	// labels are those of the groups.
	labels  []labels.Labels
	buf     []byte
	builder *labels.Builder
}

// group returns the number of the group of a series. A new group has the next number.
func (g *grouper) group(l labels.Labels) int {
	switch {
	case g.without:
		g.buf = l.BytesWithoutLabels(g.buf, g.names...)
	case len(g.names) == 0:
		g.buf = g.buf[:0]
	default:
		g.buf = l.BytesWithLabels(g.buf, g.names...)
	}
	if i, ok := g.index[string(g.buf)]; ok {
		return i
	}
	if g.index == nil {
		g.index = map[string]int{}
		g.builder = labels.NewBuilder(labels.EmptyLabels())
	}
	i := len(g.labels)
	g.index[string(g.buf)] = i
	g.builder.Reset(l)
	switch {
	case g.without:
		g.builder.Del(g.names...)
		g.labels = append(g.labels, g.builder.Labels())
	case len(g.names) == 0:
		g.labels = append(g.labels, labels.EmptyLabels())
	default:
		g.builder.Keep(g.names...)
		g.labels = append(g.labels, g.builder.Labels())
	}
	return i
}
