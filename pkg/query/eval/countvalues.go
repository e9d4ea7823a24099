package eval

import (
	"context"
	"math"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// valueLabel returns the label of count_values.
func valueLabel(e *parser.AggregateExpr) (string, error) {
	l, ok := e.Param.(*parser.StringLiteral)
	if !ok || !model.UTF8Validation.IsValidLabelName(l.Val) {
		return "", unsupported("label of count_values at %s", position(e))
	}
	return l.Val, nil
}

// valueCounts is count_values: it counts the series of each group that have a value.
type valueCounts struct {
	*aggregation
	builder *labels.Builder
	// steps has the counts of each group at the steps at which there are any.
	steps []map[int32]int32
}

func (c *valueCounts) next(ctx context.Context) (*row, error) {
	if !c.full {
		if err := c.countAll(ctx); err != nil {
			return nil, err
		}
		c.full = true
	}
	if c.out == len(c.steps) {
		return nil, nil
	}
	i := c.out
	c.out++
	r, err := c.sc.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	r.labels = c.grouper.labels[i]
	for step, n := range c.steps[i] {
		r.set(int(step), float64(n))
	}
	c.steps[i] = nil
	return r, nil
}

func (c *valueCounts) countAll(ctx context.Context) error {
	for {
		r, err := c.op.next(ctx)
		if r == nil || err != nil {
			return err
		}
		before := len(c.steps)
		added := c.countRow(r)
		const entry, group = 24, 400
		if err := c.sc.charge(ctx, added*entry+int64(len(c.steps)-before)*group); err != nil {
			return err
		}
		c.sc.hold(added)
		r.release()
	}
}

// countRow counts the values of one series, and returns how many counts are new. A
// value that is equal to the one before has the same group.
func (c *valueCounts) countRow(r *row) (added int64) {
	var (
		g    = -1
		last float64
		hist *histogram.FloatHistogram
	)
	for i, ok := range r.has {
		if !ok {
			continue
		}
		h := r.histogram(i)
		if g < 0 || h != hist || (h == nil && math.Float64bits(r.v[i]) != math.Float64bits(last)) {
			g = c.valueGroup(r, i)
			last, hist = r.v[i], h
		}
		if c.steps[g][int32(i)] == 0 {
			added++
		}
		c.steps[g][int32(i)]++
	}
	return added
}

// valueGroup returns the group of the value at step i.
func (c *valueCounts) valueGroup(r *row, i int) int {
	var v string
	if h := r.histogram(i); h != nil {
		v = h.String()
	} else {
		v = strconv.FormatFloat(r.v[i], 'f', -1, 64)
	}
	c.builder.Reset(r.labels)
	c.builder.Set(c.plan.valueLabel, v)
	g := c.grouper.group(c.builder.Labels())
	if g == len(c.steps) {
		c.steps = append(c.steps, map[int32]int32{})
	}
	return g
}
