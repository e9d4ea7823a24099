package eval

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// kernel turns the samples of one series into a row. It belongs to one goroutine.
type kernel interface {
	// eval sets the labels and the values of out, which has none. It may change s.
	eval(w *worker, metric labels.Labels, s *Samples, out *row) error
}

// kernelPlan makes the kernels of a selector; each worker has one.
type kernelPlan interface {
	prepare(ctx context.Context, sc *scope) (func() kernel, error)
}

// leafPlan is a selector with what is made of each of its series.
type leafPlan struct {
	turn
	selector Selector
	kernel   kernelPlan
	// noName says that the kernel drops the name of the metric.
	noName bool
}

func (p *leafPlan) nameless() bool { return p.noName }

func (p *leafPlan) open(ctx context.Context, sc *scope) (operator, error) {
	ctx, cancel := context.WithCancel(ctx)
	kernels, err := p.kernel.prepare(ctx, sc)
	if err != nil {
		cancel()
		return nil, err
	}
	l := &leaf{
		sc: sc, turn: p.turn, ctx: ctx, cancel: cancel, kernels: kernels,
		oneName: metricName(p.selector.Matchers) != "",
	}
	l.sealed = p.noName && !l.oneName
	l.inline = l.newWorker()
	l.stream = sc.storage.Select(ctx, p.selector)
	sc.opened(l)
	return l, nil
}

// leaf evaluates the series of a selector. It begins in the goroutine of its
// caller, so that a small query costs no more; from inlineWork on it uses several.
type leaf struct {
	sc      *scope
	turn    turn
	ctx     context.Context
	cancel  context.CancelFunc
	stream  SeriesStream
	kernels func() kernel
	funcs   []rowFunc
	oneName bool
	// sealed says that no more functions may be pushed, relabelled that the last one
	// sets labels.
	sealed, relabelled bool
	// inner says that the series are rows, and no series of a selector.
	inner bool
	parts
	// typed and plain say that series with and without a description of the
	// metric, beside its name, were seen.
	typed, plain bool

	inline leafWorker
	series int64
	work   int64
	par    *parallel
}

// inlineWork is how much work, in samples and steps, is done before other
// goroutines are started: about a millisecond.
const inlineWork = 100_000

type leafWorker struct {
	*worker
	kernel kernel
}

func (l *leaf) newWorker() leafWorker {
	return leafWorker{worker: newWorker(l.ctx, l.sc, l.turn, l.oneName), kernel: l.kernels()}
}

// push adds a function that is applied to each row, before the first next. It
// returns false when rows have to be compared before, because two of them may have
// equal labels.
func (l *leaf) push(f rowFunc, relabels bool) bool {
	if l.sealed {
		return false
	}
	l.funcs = append(l.funcs, f)
	l.sealed, l.relabelled = relabels || !l.oneName, relabels
	return true
}

func (l *leaf) next(ctx context.Context) (*row, error) {
	r, err := l.produce(ctx)
	if r == nil || err != nil {
		return nil, err
	}
	l.typed = l.typed || r.check
	l.plain = l.plain || !r.check
	if l.oneName && l.typed && l.plain {
		return nil, unsupported("series with and without description of the metric")
	}
	if r.check {
		if err := l.admit(ctx, l.sc, r.labels, r.has); err != nil {
			return nil, err
		}
		if l.split && l.oneName && !l.relabelled {
			return nil, unsupported("series that differ in the description of the metric only")
		}
	}
	return r, nil
}

// produce returns the next row that has values.
func (l *leaf) produce(ctx context.Context) (*row, error) {
	for l.par == nil {
		if err := l.sc.pace(ctx); err != nil {
			return nil, err
		}
		if l.work > l.sc.opts.inline {
			if n := l.sc.workers(); n > 1 {
				l.par = l.parallel(n)
				break
			}
		}
		if !l.stream.Next() {
			return nil, l.ended()
		}
		l.series++
		r, err := l.eval(ctx, l.inline, l.stream.At())
		l.work += int64(len(l.inline.samples.T) + l.sc.grid.steps)
		if r != nil || err != nil {
			return r, err
		}
	}
	return l.par.next(ctx)
}

// ended returns the error of the stream, after its last series.
func (l *leaf) ended() error {
	l.sc.annotate(l.turn, l.stream.Warnings())
	if err := l.stream.Err(); err != nil {
		return fmt.Errorf("expanding series: %w", err)
	}
	return nil
}

// eval makes the row of one series, or nil when it has no values. It releases the
// series.
func (l *leaf) eval(ctx context.Context, w leafWorker, s Series) (*row, error) {
	r, err := w.sc.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.decode(w, s); err != nil {
		return nil, err
	}
	metric := s.Labels()
	s.Release()
	if t := l.sc.opts.Timings; t != nil {
		defer since(time.Now(), &t.Functions)
	}
	if err := w.kernel.eval(w.worker, metric, &w.samples, r); err != nil {
		return nil, err
	}
	for _, f := range l.funcs {
		if r.n == 0 {
			break
		}
		if err := f(w.worker, r); err != nil {
			return nil, err
		}
	}
	if r.n == 0 {
		r.release()
		return nil, nil
	}
	return r, nil
}

func (l *leaf) decode(w leafWorker, s Series) error {
	if t := l.sc.opts.Timings; t != nil {
		defer since(time.Now(), &t.Decoding)
	}
	w.samples.Rising = false
	return s.Decode(&w.samples)
}

// close ends the goroutines that use series of the stream, and closes the stream.
func (l *leaf) close() error {
	l.sc.closing(l)
	l.cancel()
	if l.par != nil {
		l.series += l.par.wait()
	}
	l.inline.flush()
	l.sc.mtx.Lock()
	if !l.inner {
		l.sc.stats.TotalSeries += l.series
	}
	l.sc.mtx.Unlock()
	return l.stream.Close()
}

// selector compiles what all selectors have in common.
func (c *compiler) selector(vs *parser.VectorSelector) (Selector, error) {
	if vs.Anchored || vs.Smoothed {
		return Selector{}, unsupported("anchored or smoothed selector at %s", position(vs))
	}
	return Selector{Matchers: vs.LabelMatchers, Hints: c.hints[vs]}, nil
}

// reference returns how the time of a selector follows from that of a step: the
// time of the step less offset, or for each step at less offset.
func reference(vs *parser.VectorSelector) (offset int64, at *int64) {
	return vs.OriginalOffset.Milliseconds(), vs.Timestamp
}
