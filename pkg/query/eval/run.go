package eval

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// run is one evaluation of a program. It may be used concurrently.
type run struct {
	storage Storage
	opts    *Options

	mtx sync.Mutex
	// annos are the annotations of each expression, by its turn.
	annos map[turn]*annotations.Annotations
	// charged is the memory in use, granted what Take has given.
	charged, granted int64
	// peak is the most samples held at once, held the present number.
	held, peak int64
	// fail ends the evaluation with an error.
	fail context.CancelCauseFunc
	// ctx is the one that fail cancels.
	ctx context.Context
	// merges add the statistics of inner scopes to those of outer ones.
	merges []func()
	// leaves are those that are open, in the order of opening.
	leaves []*leaf
}

// opened records a leaf until it is closed.
func (r *run) opened(l *leaf) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.leaves = append(r.leaves, l)
}

// closing forgets a leaf that is being closed.
func (r *run) closing(l *leaf) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.leaves = slices.DeleteFunc(r.leaves, func(o *leaf) bool { return o == l })
}

// closeLeaves closes the leaves that a panic has left open. The last ones come first: their
// goroutines read those that were opened before them.
func (r *run) closeLeaves() {
	for l := r.lastLeaf(); l != nil; l = r.lastLeaf() {
		_ = l.close() // the panic is the error
	}
}

func (r *run) lastLeaf() *leaf {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if len(r.leaves) == 0 {
		return nil
	}
	return r.leaves[len(r.leaves)-1]
}

// scope is the evaluation of one part of the expression on one grid.
type scope struct {
	*run
	grid  grid
	stats *stats.QuerySamples
	pool  *rowPool
}

func (r *run) newScope(g grid, s *stats.QuerySamples) *scope {
	return &scope{run: r, grid: g, stats: s, pool: &rowPool{run: r, steps: g.steps}}
}

// child returns a scope on another grid with statistics of its own. merge adds
// these to the statistics of sc: it runs when the whole evaluation has ended, and
// the inner scopes' before it.
func (sc *scope) child(g grid, s *stats.QuerySamples, merge func(s *stats.QuerySamples)) *scope {
	sc.mtx.Lock()
	defer sc.mtx.Unlock()
	sc.merges = append(sc.merges, func() { merge(s) })
	return sc.newScope(g, s)
}

// turn is the place of an expression in the order of evaluation: operands before
// what is made of them, from left to right. Of two annotations with equal texts and
// different positions, the last one in this order stays.
type turn int

func (t *turn) setTurn(n turn) { *t = n }

// annotations returns those of the whole run.
func (r *run) annotations() annotations.Annotations {
	var all annotations.Annotations
	for _, t := range slices.Sorted(maps.Keys(r.annos)) {
		all.Merge(*r.annos[t])
	}
	return all
}

// finish merges the statistics. A scope is made after the one around it, so the
// last one made is merged first.
func (r *run) finish() {
	for i := len(r.merges) - 1; i >= 0; i-- {
		r.merges[i]()
	}
}

// annotate adds the annotations of an expression to the result.
func (r *run) annotate(t turn, a annotations.Annotations) {
	if len(a) == 0 {
		return
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.annos == nil {
		r.annos = map[turn]*annotations.Annotations{}
	}
	if r.annos[t] == nil {
		r.annos[t] = annotations.New()
	}
	r.annos[t].Merge(a)
}

// chargeStep is how much memory is taken at least from the budget at once.
const chargeStep = 256 << 10

// charge takes memory until the end of the run, or until discharge. It waits where
// Options.Take waits.
func (r *run) charge(ctx context.Context, bytes int64) error {
	r.mtx.Lock()
	r.charged += bytes
	need := r.charged - r.granted
	r.mtx.Unlock()
	if need <= 0 || r.opts.Take == nil {
		return nil
	}
	need = max(need, chargeStep)
	if err := r.opts.Take(ctx, need); err != nil {
		return err
	}
	r.mtx.Lock()
	r.granted += need
	r.mtx.Unlock()
	return nil
}

// settle gives all memory back but keep bytes, and returns how much stays taken.
func (r *run) settle(keep int64) int64 {
	keep = min(keep, r.granted)
	if back := r.granted - keep; back > 0 && r.opts.Give != nil {
		r.opts.Give(back)
	}
	return keep
}

// hold counts samples that are held, release ones with a negative number. Too many
// end the evaluation.
func (r *run) hold(samples int64) {
	r.mtx.Lock()
	r.held += samples
	r.peak = max(r.peak, r.held)
	tooMany := r.opts.MaxSamples > 0 && r.held > r.opts.MaxSamples
	r.mtx.Unlock()
	if tooMany {
		r.fail(promql.ErrTooManySamples("query execution"))
	}
}
