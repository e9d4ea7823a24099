package eval

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// join evaluates an operator other than a set operator on two vectors. It holds
// the operand that has one series for each signature and step, and streams the
// other one.
type join struct {
	sc    *scope
	op    elementOp
	sign  signer
	names resultLabels
	// swapped says that the streamed operand is the right one.
	swapped bool
	// exclusive says that a signature has one result at each step.
	exclusive         bool
	many, one         operator
	fillMany, fillOne *float64

	loaded bool
	filled bool
	groups map[string]*joinGroup
	// ones are the rows of the operand that is held, in their order.
	ones []heldRow
	// clash are the steps at which the held operand has a signature twice.
	clash stepSet
	// results refuses equal labels at one step.
	results parts
	notes   lastNotes
	ready   []*row
}

// joinGroup is what is known of one signature.
type joinGroup struct {
	rows    []*row
	present stepSet
	// matched are the steps at which there was a pair.
	matched stepSet
}

type heldRow struct {
	*row
	group *joinGroup
}

// newJoin makes the operator for two operands on a grid. It owns them.
func newJoin(sc *scope, p *binaryPlan, left, right operator) *join {
	e := p.e
	m := e.VectorMatching
	op := elementOp{op: e.Op, pos: e.PositionRange(), boolean: e.ReturnBool}
	j := &join{
		sc: sc, op: op, sign: newSigner(m),
		names: resultLabels{matching: m, renames: op.renames()},
		many:  left, one: right,
		fillMany: m.FillValues.LHS, fillOne: m.FillValues.RHS,
		exclusive: m.Card == parser.CardOneToOne,
		groups:    map[string]*joinGroup{},
		notes:     lastNotes{turn: p.turn, steps: sc.grid.steps},
	}
	if m.Card == parser.CardOneToMany {
		j.swapped = true
		j.many, j.one = right, left
		j.fillMany, j.fillOne = j.fillOne, j.fillMany
	}
	return j
}

func (j *join) close() error { return errors.Join(j.many.close(), j.one.close()) }

// next implements operator. The order is that of the streamed operand, and then
// that of the held one for results with a fill value.
func (j *join) next(ctx context.Context) (*row, error) {
	if !j.loaded {
		if err := j.load(ctx); err != nil {
			return nil, err
		}
		j.loaded = true
	}
	for {
		if len(j.ready) > 0 {
			r := j.ready[0]
			j.ready = j.ready[1:]
			return r, nil
		}
		if j.filled {
			return nil, nil
		}
		many, err := j.many.next(ctx)
		if err != nil {
			return nil, err
		}
		j.ready = j.ready[:0]
		if many == nil {
			err = j.finish(ctx)
		} else {
			err = j.match(ctx, many)
		}
		if err != nil {
			return nil, err
		}
	}
}

// load reads the operand that is held.
func (j *join) load(ctx context.Context) error {
	for {
		r, err := j.one.next(ctx)
		if err != nil || r == nil {
			return err
		}
		g, err := j.group(ctx, r.labels)
		if err != nil {
			return err
		}
		if !g.present.addAll(r.has, &j.clash) && (j.fillMany != nil || j.fillOne != nil) {
			return unsupported("several series for one signature with fill")
		}
		g.rows = append(g.rows, r)
		if j.fillMany != nil {
			j.ones = append(j.ones, heldRow{r, g})
		}
	}
}

// group returns the group of a signature, and makes it when it is new.
func (j *join) group(ctx context.Context, ls labels.Labels) (*joinGroup, error) {
	sig := j.sign.sign(ls)
	if g := j.groups[string(sig)]; g != nil {
		return g, nil
	}
	if err := j.sc.charge(ctx, 2*entryBytes+int64(len(sig))+2*stepSetBytes(j.sc.grid.steps)); err != nil {
		return nil, err
	}
	g := &joinGroup{}
	g.matched.reserve(j.sc.grid.steps)
	j.groups[string(sig)] = g
	return g, nil
}

// match makes the results of one series of the streamed operand.
func (j *join) match(ctx context.Context, many *row) error {
	if j.clash.any(many.has) {
		return unsupported("several series for one signature")
	}
	g := j.groups[string(j.sign.sign(many.labels))]
	if g == nil && j.fillOne != nil {
		var err error
		if g, err = j.group(ctx, many.labels); err != nil {
			return err
		}
	}
	if g == nil {
		many.release()
		return nil
	}
	if len(g.rows) == 1 && j.fillOne == nil {
		return j.pair(ctx, many, g.rows[0], many, g)
	}
	for _, one := range g.rows {
		dst, err := j.sc.pool.get(ctx)
		if err != nil {
			return err
		}
		if err := j.pair(ctx, many, one, dst, g); err != nil {
			return err
		}
	}
	if j.fillOne != nil {
		if err := j.fill(ctx, many, *j.fillOne, g, true); err != nil {
			return err
		}
	}
	many.release()
	return nil
}

// pair evaluates the operator for two rows into dst, which may be the first.
func (j *join) pair(ctx context.Context, many, one, dst *row, g *joinGroup) error {
	dst.labels = j.names.of(many.labels, one.labels)
	for i := range dst.has {
		dst.has[i] = many.has[i] && one.has[i]
	}
	l, r := many, one
	if j.swapped {
		l, r = r, l
	}
	return j.evaluate(ctx, l, r, dst, g)
}

// fill evaluates the operator for the samples of a row that have no partner.
func (j *join) fill(ctx context.Context, r *row, value float64, g *joinGroup, ofMany bool) error {
	dst, err := j.sc.pool.get(ctx)
	if err != nil {
		return err
	}
	partner, err := j.sc.pool.get(ctx)
	if err != nil {
		return err
	}
	defer partner.release()
	for i := range partner.v {
		partner.v[i] = value
	}
	partner.labels = j.sign.labels(r.labels)
	absent := &g.matched
	if ofMany {
		absent = &g.present
	}
	for i := range dst.has {
		dst.has[i] = r.has[i] && !absent.has(i)
	}
	many, one := r, partner
	if !ofMany {
		many, one = partner, r
	}
	dst.labels = j.names.of(many.labels, one.labels)
	if j.swapped {
		many, one = one, many
	}
	return j.evaluate(ctx, many, one, dst, g)
}

// finish makes the results of held samples without a partner, and the annotations.
func (j *join) finish(ctx context.Context) error {
	j.filled = true
	if j.fillMany != nil {
		for _, one := range j.ones {
			if err := j.fill(ctx, one.row, *j.fillMany, one.group, false); err != nil {
				return err
			}
		}
	}
	for _, g := range j.groups {
		for _, r := range g.rows {
			r.release()
		}
	}
	j.groups, j.ones = nil, nil
	return j.notes.report(j.op, j.sc)
}

// evaluate computes dst where dst.has is true, checks that results are unique, and
// puts dst into the results when it has any. dst may be l or r.
func (j *join) evaluate(ctx context.Context, l, r, dst *row, g *joinGroup) error {
	mixed := l.h != nil || r.h != nil || j.op.trims()
	var results []opResult
	if mixed {
		results = make([]opResult, j.sc.grid.steps)
		for i, ok := range dst.has {
			if !ok {
				continue
			}
			o := j.op.apply(l.sample(i), r.sample(i))
			if o.note != nil {
				j.notes.set(i, o.note)
			}
			dst.has[i] = !o.invalid
			results[i] = o
		}
	}
	if unique := g.matched.addAll(dst.has, nil); !unique && j.exclusive {
		return unsupported("several matches in a one-to-one match")
	}
	if err := j.results.admit(ctx, j.sc, dst.labels, dst.has); err != nil {
		return err
	}
	if mixed {
		dst.setResults(results, j.op.boolean)
	} else {
		j.op.floats(dst.v, l.v, r.v, l.v, dst.has)
	}
	if dst.count() == 0 {
		dst.release()
		return nil
	}
	j.ready = append(j.ready, dst)
	return nil
}
