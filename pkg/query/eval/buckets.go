package eval

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/util/annotations"
)

// bucketsPlan is a function of histograms, native ones and those of series that
// count what lies below the bound in their label "le".
type bucketsPlan struct {
	turn
	in   plan
	args []scalarPlan
	// quantiles are the arguments that are quantiles, for annotations.
	quantiles []parser.Expr
	// label gets the quantile as its value; empty where there is only one.
	label string
	pos   posrange.PositionRange
}

// buckets compiles histogram_quantile, histogram_quantiles and histogram_fraction.
func (c *compiler) buckets(e *parser.Call) (plan, error) {
	p := &bucketsPlan{}
	var vector parser.Expr
	var scalars parser.Expressions
	switch e.Func.Name {
	case "histogram_fraction":
		scalars, vector = e.Args[:2], e.Args[2]
	case "histogram_quantile":
		scalars, vector = e.Args[:1], e.Args[1]
		p.quantiles = scalars
	case "histogram_quantiles":
		name, err := literals(e.Args[1:2])
		if err != nil {
			return nil, err
		}
		p.label, scalars, vector = name[0], e.Args[2:], e.Args[0]
		p.quantiles = scalars
	}
	p.pos = vector.PositionRange()
	var err error
	if p.in, p.args, err = c.operands(vector, scalars, vector != e.Args[0]); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *bucketsPlan) nameless() bool { return p.label == "" }

// open implements plan. It reads the vector to its end.
func (p *bucketsPlan) open(ctx context.Context, sc *scope) (operator, error) {
	args, err := allValues(ctx, sc, p.args)
	if err != nil {
		return nil, err
	}
	in, err := p.in.open(ctx, sc)
	if err != nil {
		return nil, err
	}
	b := &bucketSets{plan: p, sc: sc, args: args, groups: map[string]*bucketSet{}}
	if err := b.read(ctx, in); err != nil {
		return nil, err
	}
	b.separate()
	list, err := b.results(ctx)
	if err != nil {
		return nil, err
	}
	b.annotate()
	return &rows{list: list}, nil
}

// bucketSets are the histograms of the input.
type bucketSets struct {
	plan *bucketsPlan
	sc   *scope
	args [][]float64

	groups  map[string]*bucketSet
	ordered []*bucketSet
	natives []nativeRow
	buf     []byte

	unique parts
	annos  annotations.Annotations
	// forced are the annotations about counts that are not monotonic, for each step.
	forced []annotations.Annotations
}

// bucketSet is one histogram of series with the label "le".
type bucketSet struct {
	labels  labels.Labels
	buckets []boundedRow
	// present are the steps at which it has a bucket.
	present stepSet
	// mixed are the steps at which there is a native histogram with its labels.
	mixed stepSet
}

type boundedRow struct {
	bound float64
	*row
}

// nativeRow is a series of native histograms.
type nativeRow struct {
	*row
	mixed stepSet
}

// read puts the series of the input into groups and closes it. Order matters where
// two buckets of a group have the same bound: Prometheus adds them in this order.
func (b *bucketSets) read(ctx context.Context, in operator) error {
	list, err := drain(ctx, in)
	if err != nil {
		return err
	}
	p := pacer{ctx: ctx}
	for _, r := range list {
		if p.ended(len(r.has)) {
			return p.err
		}
		if r.floats() {
			if err := b.addClassic(ctx, r); err != nil {
				return err
			}
		}
		if r.h != nil {
			b.natives = append(b.natives, nativeRow{row: r})
		}
	}
	for _, g := range b.ordered {
		slices.SortStableFunc(g.buckets, func(x, y boundedRow) int { return cmp.Compare(x.bound, y.bound) })
	}
	return nil
}

// floats says whether the row has a float.
func (r *row) floats() bool {
	if r.h == nil {
		return r.n > 0
	}
	for i, ok := range r.has {
		if ok && r.h[i] == nil {
			return true
		}
	}
	return false
}

// bucketBound reads the label of a classic bucket; false is no bound.
func bucketBound(le string) (float64, bool) {
	bound, err := strconv.ParseFloat(le, 64)
	return bound, err == nil && !math.IsNaN(bound)
}

// addClassic puts the floats of a series into the group of its histogram.
func (b *bucketSets) addClassic(ctx context.Context, r *row) error {
	le := r.labels.Get(model.BucketLabel)
	bound, ok := bucketBound(le)
	if !ok {
		b.annos.Add(annotations.NewBadBucketLabelWarning("", le, b.plan.pos))
		return nil
	}
	b.buf = r.labels.BytesWithoutLabels(b.buf, model.BucketLabel)
	g := b.groups[string(b.buf)]
	if g == nil {
		if err := b.sc.charge(ctx, entryBytes+int64(len(b.buf))+2*stepSetBytes(len(r.has))); err != nil {
			return err
		}
		g = &bucketSet{labels: labels.NewBuilder(r.labels).Del(model.MetricNameLabel, model.BucketLabel).Labels()}
		g.present.reserve(len(r.has))
		b.groups[string(b.buf)] = g
		b.ordered = append(b.ordered, g)
	}
	for i, ok := range r.has {
		if ok && r.histogram(i) == nil {
			g.present.add(i)
		}
	}
	g.buckets = append(g.buckets, boundedRow{bound, r})
	return nil
}

// separate finds the steps at which both kinds of histograms have the same labels:
// neither has a result there.
func (b *bucketSets) separate() {
	for n := range b.natives {
		r := &b.natives[n]
		b.buf = r.labels.Bytes(b.buf)
		g := b.groups[string(b.buf)]
		if g == nil {
			continue
		}
		for i, ok := range r.has {
			if ok && r.h[i] != nil && g.present.has(i) {
				b.annos.Add(annotations.NewMixedClassicNativeHistogramsWarning("", b.plan.pos))
				r.mixed.reserve(len(r.has))
				r.mixed.add(i)
				g.mixed.reserve(len(r.has))
				g.mixed.add(i)
			}
		}
	}
}

// columns is the number of results of one histogram.
func (b *bucketSets) columns() int {
	if b.plan.quantiles == nil {
		return 1
	}
	return len(b.args)
}

// results evaluates all histograms.
func (b *bucketSets) results(ctx context.Context) ([]*row, error) {
	b.forced = make([]annotations.Annotations, b.sc.grid.steps)
	natives := make([][]*row, 0, len(b.natives))
	for i := range b.natives {
		out, err := b.native(ctx, &b.natives[i])
		if err != nil {
			return nil, err
		}
		natives = append(natives, out)
	}
	classics := make([][]*row, 0, len(b.ordered))
	for _, g := range b.ordered {
		out, err := b.classic(ctx, g)
		if err != nil {
			return nil, err
		}
		classics = append(classics, out)
	}
	var list []*row
	for k := range b.columns() {
		for _, of := range [][][]*row{natives, classics} {
			for _, out := range of {
				r := out[k]
				if r.n == 0 {
					r.release()
					continue
				}
				if err := b.unique.admit(ctx, b.sc, r.labels, r.has); err != nil {
					return nil, err
				}
				list = append(list, r)
			}
		}
	}
	return list, nil
}

// newRows returns an empty row for each result of a histogram.
func (b *bucketSets) newRows(ctx context.Context, ls labels.Labels) ([]*row, error) {
	ls = ls.DropReserved(schema.IsMetadataLabel)
	out := make([]*row, b.columns())
	for k := range out {
		r, err := b.sc.pool.get(ctx)
		if err != nil {
			return nil, err
		}
		out[k], r.labels = r, ls
		if b.plan.label == "" {
			continue
		}
		q := b.args[k][0]
		for _, other := range b.args[k] {
			if math.Float64bits(other) != math.Float64bits(q) {
				return nil, unsupported("quantile that changes from step to step in histogram_quantiles")
			}
		}
		r.labels = labels.NewBuilder(ls).Set(b.plan.label, quantileText(q)).Labels()
	}
	return out, nil
}

// quantileText is a quantile as the value of a label.
func quantileText(q float64) string {
	if math.IsNaN(q) {
		return "NaN"
	}
	return labels.FormatOpenMetricsFloat(q)
}

// native evaluates the native histograms of one series.
func (b *bucketSets) native(ctx context.Context, r *nativeRow) ([]*row, error) {
	out, err := b.newRows(ctx, r.labels)
	if err != nil {
		return nil, err
	}
	p := pacer{ctx: ctx}
	for i, ok := range r.has {
		if !ok || r.h[i] == nil || r.mixed.has(i) {
			continue
		}
		if p.ended(histogramWork * len(out)) {
			return nil, p.err
		}
		for k := range out {
			var v float64
			var annos annotations.Annotations
			if b.plan.quantiles == nil {
				v, annos = promql.HistogramFraction(b.args[0][i], b.args[1][i], r.h[i], "", b.plan.pos)
			} else {
				v, annos = promql.HistogramQuantile(b.args[k][i], r.h[i], "", b.plan.pos)
			}
			b.annos.Merge(annos)
			out[k].set(i, v)
		}
	}
	return out, nil
}

// classic evaluates one histogram of series with the label "le".
func (b *bucketSets) classic(ctx context.Context, g *bucketSet) ([]*row, error) {
	out, err := b.newRows(ctx, g.labels)
	if err != nil {
		return nil, err
	}
	buckets := make(promql.Buckets, 0, len(g.buckets))
	p := pacer{ctx: ctx}
	for i := range b.sc.grid.steps {
		if !g.present.has(i) || g.mixed.has(i) {
			continue
		}
		if p.ended(callWork + len(g.buckets)*len(out)) {
			return nil, p.err
		}
		buckets = buckets[:0]
		for _, r := range g.buckets {
			if r.has[i] && r.histogram(i) == nil {
				buckets = append(buckets, promql.Bucket{UpperBound: r.bound, Count: r.v[i]})
			}
		}
		if b.plan.quantiles == nil {
			out[0].set(i, promql.BucketFraction(b.args[0][i], b.args[1][i], buckets))
			continue
		}
		for k := range out {
			// Each quantile is of the buckets as the one before has left them.
			v, forced, _, lowest, highest, diff := promql.BucketQuantile(b.args[k][i], buckets)
			if forced {
				b.forced[i].Add(annotations.NewHistogramQuantileForcedMonotonicityInfo("", b.plan.pos, b.sc.grid.at(i), lowest, highest, diff))
			}
			out[k].set(i, v)
		}
	}
	return out, nil
}

// annotate adds the annotations to the result. Those about counts that are not
// monotonic hold a number that depends on how they are merged: Prometheus's engine
// merges all steps so far into the result at each step.
func (b *bucketSets) annotate() {
	var soFar annotations.Annotations
	for i := range b.forced {
		step := b.forced[i]
		for k, e := range b.plan.quantiles {
			if q := b.args[k][i]; !(q >= 0 && q <= 1) {
				step.Add(annotations.NewInvalidQuantileWarning(q, e.PositionRange()))
			}
		}
		soFar.Merge(step)
		b.annos.Merge(soFar)
	}
	b.sc.annotate(b.plan.turn, b.annos)
}
