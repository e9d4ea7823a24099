package eval

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// grid is the times at which an expression is evaluated, in milliseconds.
type grid struct {
	start, step int64
	// steps is the number of times, at least 1. The last one is start+(steps-1)*step.
	steps int
	// ranged says that the evaluation is over a range of times, even if that has one
	// step: Prometheus's engine does not keep the order of vectors then.
	ranged bool
}

func (g grid) at(i int) int64 { return g.start + int64(i)*g.step }

// row is one series of the result of an expression over all steps of a grid. It
// belongs to one goroutine at a time.
type row struct {
	labels labels.Labels
	// has says at which steps there is a value, n at how many.
	has []bool
	n   int
	// v holds the floats.
	v []float64
	// h is nil when all values are floats. Otherwise the value at step i is a
	// histogram where h[i] is not nil. Histograms are immutable.
	h []*histogram.FloatHistogram
	// check says that another row of the same operator may have the same labels:
	// the operator compares before it returns the row.
	check bool

	pool *rowPool
	// spare keeps the memory of h for a later use of the row.
	spare []*histogram.FloatHistogram
}

// set stores a float at step i, which has no value yet.
func (r *row) set(i int, v float64) {
	r.v[i] = v
	r.has[i] = true
	r.n++
}

// setHistogram stores a histogram at step i, which has no value yet.
func (r *row) setHistogram(i int, h *histogram.FloatHistogram) {
	if r.h == nil {
		r.histograms()
	}
	r.h[i] = h
	r.has[i] = true
	r.n++
}

// histograms makes h a column without any histogram.
func (r *row) histograms() {
	if len(r.spare) != len(r.has) {
		r.spare = make([]*histogram.FloatHistogram, len(r.has))
	}
	r.h = r.spare
}

// histogram returns the histogram at step i, or nil.
func (r *row) histogram(i int) *histogram.FloatHistogram {
	if r.h == nil {
		return nil
	}
	return r.h[i]
}

// drop removes the value at step i, if there is one.
func (r *row) drop(i int) {
	if !r.has[i] {
		return
	}
	r.has[i] = false
	r.n--
	if r.h != nil {
		r.h[i] = nil
	}
}

// release gives the row back for another use.
func (r *row) release() {
	if r.h != nil {
		clear(r.spare)
		r.h = nil
	}
	r.labels = labels.EmptyLabels()
	r.check = false
	r.pool.put(r)
}

// rowPool keeps rows of one number of steps. It may be used concurrently.
type rowPool struct {
	run   *run
	steps int

	mtx  sync.Mutex
	free []*row
}

// get returns a row without values, or the error of the context.
func (p *rowPool) get(ctx context.Context) (*row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.run.hold(int64(p.steps))
	p.mtx.Lock()
	if n := len(p.free); n > 0 {
		r := p.free[n-1]
		p.free = p.free[:n-1]
		p.mtx.Unlock()
		clear(r.has)
		r.n = 0
		return r, nil
	}
	p.mtx.Unlock()
	const bytesPerStep, overhead = 9, 160
	if err := p.run.charge(ctx, int64(p.steps)*bytesPerStep+overhead); err != nil {
		return nil, err
	}
	return &row{has: make([]bool, p.steps), v: make([]float64, p.steps), pool: p}, nil
}

func (p *rowPool) put(r *row) {
	p.run.hold(-int64(p.steps))
	p.mtx.Lock()
	p.free = append(p.free, r)
	p.mtx.Unlock()
}

// operator evaluates one expression of type instant vector. It belongs to one
// goroutine, and may use others below.
type operator interface {
	// next returns the next series, or nil at the end. Series without any value
	// are left out. Rows with equal labels have no step in common: they are parts of
	// one series. Series come in the order in which
	// Prometheus's engine has them in its matrix, where that order is defined. The
	// row belongs to the caller, who releases it.
	next(ctx context.Context) (*row, error)
	// close ends everything below and waits for it. It is called exactly once, also
	// before the end of the series.
	close() error
}
