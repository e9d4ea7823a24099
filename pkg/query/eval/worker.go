package eval

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/util/annotations"
)

// worker has what one goroutine needs to make rows: memory that it uses again,
// and the annotations and statistics that it collects until flush.
type worker struct {
	pacer
	sc      *scope
	samples Samples
	annos   annotations.Annotations
	turn    turn
	// oneName says that all series of the operator have the same metric name.
	oneName bool

	total, read         int64
	totalStep, readStep []int64
}

func newWorker(ctx context.Context, sc *scope, t turn, oneName bool) *worker {
	w := &worker{pacer: pacer{ctx: ctx}, sc: sc, turn: t, oneName: oneName}
	if sc.stats.TotalSamplesPerStep != nil {
		w.totalStep = make([]int64, sc.grid.steps)
		w.readStep = make([]int64, sc.grid.steps)
	}
	return w
}

// count adds samples that are considered at a step, and those of them that were
// not considered at the step before.
func (w *worker) count(step int, total, read int64) {
	w.total += total
	w.read += read
	if w.totalStep != nil {
		w.totalStep[step] += total
		w.readStep[step] += read
	}
}

// flush hands annotations and statistics to the run, and forgets them.
func (w *worker) flush() {
	w.sc.annotate(w.turn, w.annos)
	w.annos = nil
	w.sc.mtx.Lock()
	defer w.sc.mtx.Unlock()
	s := w.sc.stats
	s.TotalSamples += w.total
	s.SamplesRead += w.read
	w.total, w.read = 0, 0
	for i := range w.totalStep {
		s.TotalSamplesPerStep[i] += w.totalStep[i]
		s.SamplesReadPerStep[i] += w.readStep[i]
	}
	clear(w.totalStep)
	clear(w.readStep)
}

// dropName removes the labels that name and describe the metric from a row.
func (w *worker) dropName(r *row) {
	before := r.labels
	r.labels = before.DropReserved(schema.IsMetadataLabel)
	// Without the name, two series can be equal only if names differ, or if one
	// of the other descriptions was there.
	r.check = r.check || !w.oneName || before.Has("__type__") || before.Has("__unit__")
}

// rowFunc changes a row in place. It may drop values, and clears n in a row that
// is to be left out.
type rowFunc func(w *worker, r *row) error

// unsupported returns an error that wraps ErrUnsupported and says why.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// recovered turns a panic of a function of Prometheus into an error. These panic
// with an error where the evaluation fails, and Prometheus's engine then fails in
// the same way. Any other panic is a fault of the program.
func recovered(p any, err *error) {
	if p == nil {
		return
	}
	var fault runtime.Error
	cause, ok := p.(error)
	switch {
	case ok && errors.As(cause, &fault):
		buf := make([]byte, 16<<10)
		*err = &panicError{cause: cause, stack: string(buf[:runtime.Stack(buf, false)])}
	case ok:
		*err = unsupported("%v", cause)
	default:
		*err = &panicError{cause: fmt.Errorf("%v", p)}
	}
}

// panicError is a fault of this package that ended an evaluation. Prometheus's
// engine has the answer nevertheless.
type panicError struct {
	cause error
	stack string
}

func (e *panicError) Error() string {
	return fmt.Sprintf("panic in the evaluator: %v\n%s", e.cause, e.stack)
}
func (e *panicError) Unwrap() []error { return []error{ErrUnsupported, e.cause} }

// histogramSamples is the number of samples for which Prometheus counts a histogram.
func histogramSamples(h *histogram.FloatHistogram) int64 { return int64(h.Size()+8) / 16 }
