package eval

import (
	"context"
	"slices"
)

// pacer looks at a context now and then in a long piece of work, of one goroutine. An
// ended context ends the work; who evaluates then fails with err.
type pacer struct {
	ctx  context.Context
	work int
	err  error
}

// paceWork is the work between two looks at the context, in samples that are added,
// compared or sorted: some milliseconds.
const paceWork = 1 << 18

// ended adds work that has been done, and reports whether the rest is not wanted.
func (p *pacer) ended(work int) bool {
	if p.work += work; p.work >= paceWork {
		p.work = 0
		p.err = p.ctx.Err()
	}
	return p.err != nil
}

// sortPaced sorts s, or returns the error of the context, with s in any order. Once the
// context has ended all elements are equal, which ends the sort at once.
func sortPaced[E any](ctx context.Context, s []E, compare func(a, b E) int) error {
	const compareWork = 64
	p := pacer{ctx: ctx}
	slices.SortFunc(s, func(a, b E) int {
		if p.ended(compareWork) {
			return 0
		}
		return compare(a, b)
	})
	return p.err
}

// pace is called between series: it ends the evaluation with its context, and waits
// where Options.Pace waits.
func (r *run) pace(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.opts.Pace == nil {
		return nil
	}
	return r.opts.Pace(ctx)
}
