package eval

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"
)

// rangeFunc is a function over windows of samples: at each step the samples in
// (t-offset-rng, t-offset], where t is the time of the step, or at.
type rangeFunc struct {
	name   string
	rng    int64
	offset int64
	at     *int64
	// args are those of Prometheus's function; index is that of the windows.
	args  parser.Expressions
	index int
	// pos is where annotations point to.
	pos    posrange.PositionRange
	params []scalarPlan
	// inner says that the windows have results of a subquery, whose samples are
	// counted already.
	inner bool
	// stats says that Prometheus's engine drops the buckets of histograms.
	stats bool
}

// keepsName says that the result keeps the name of the metric.
func (f *rangeFunc) keepsName() bool {
	switch f.name {
	case "last_over_time", "first_over_time":
		return true
	case "absent_over_time": // its labels are made from the matchers
		return true
	}
	return false
}

// counts says that the function reads the series as a counter.
func (f *rangeFunc) counts() bool { return f.name == "rate" || f.name == "increase" }

// rangeCall compiles a function over a range of a selector.
func (c *compiler) rangeCall(e *parser.Call, index int, ms *parser.MatrixSelector) (plan, error) {
	vs := ms.VectorSelector.(*parser.VectorSelector)
	sel, err := c.selector(vs)
	if err != nil {
		return nil, err
	}
	f, err := c.rangeFunc(e, index, ms)
	if err != nil {
		return nil, err
	}
	f.stats = vs.SkipHistogramBuckets
	return &leafPlan{selector: sel, kernel: f, noName: !f.keepsName()}, nil
}

// rangeFunc compiles the function of e over the windows of ms, which is the
// argument number index or stands for the subquery there.
func (c *compiler) rangeFunc(e *parser.Call, index int, ms *parser.MatrixSelector) (*rangeFunc, error) {
	if promql.FunctionCalls[e.Func.Name] == nil {
		return nil, unsupported("function %s", e.Func.Name)
	}
	vs := *ms.VectorSelector.(*parser.VectorSelector)
	f := &rangeFunc{name: e.Func.Name, rng: ms.Range.Milliseconds(), args: slices.Clone(e.Args)}
	f.offset, f.at = reference(&vs)
	vs.Series, vs.UnexpandedSeriesSet = nil, nil
	arg := *ms
	arg.VectorSelector = &vs
	f.args[index], f.index = &arg, index
	f.pos = arg.PositionRange()
	for i, a := range e.Args {
		if i == index {
			continue
		}
		p, err := c.scalar(a)
		if err != nil {
			return nil, err
		}
		f.params = append(f.params, p)
	}
	return f, nil
}

func (f *rangeFunc) prepare(ctx context.Context, sc *scope) (func() kernel, error) {
	params := make([][]float64, len(f.params))
	for i, p := range f.params {
		var err error
		if params[i], err = p.values(ctx, sc); err != nil {
			return nil, err
		}
	}
	args := f.argsAt(sc.grid.start)
	return func() kernel {
		k := &rangeKernel{rangeFunc: f, params: params, call: promql.FunctionCalls[f.name], args: args}
		k.float = k.floatFunc()
		return k
	}, nil
}

// argsAt returns the arguments for Prometheus's function. It computes the bounds of
// the window from the time of the step and the offset of the selector, which
// Prometheus's engine changes to reach the time of @ from the first step.
func (f *rangeFunc) argsAt(start int64) parser.Expressions {
	ms := *f.args[f.index].(*parser.MatrixSelector)
	vs := *ms.VectorSelector.(*parser.VectorSelector)
	offset := f.offset
	if f.at != nil {
		offset += start - *f.at
	}
	vs.Offset = time.Duration(offset) * time.Millisecond
	ms.VectorSelector = &vs
	args := slices.Clone(f.args)
	args[f.index] = &ms
	return args
}

// rangeKernel evaluates a function over the windows of one series after the other.
type rangeKernel struct {
	*rangeFunc
	params [][]float64
	call   promql.FunctionCall
	args   parser.Expressions
	// float evaluates series that have floats only; nil where call does.
	float func(s *Samples, out *row)

	grid grid
	// w is the worker that evaluates the series.
	w *worker
	// windows are those of the floats, hwindows those of the histograms.
	windows, hwindows []window
	floats            []promql.FPoint
	hists             []promql.HPoint
	ht                []int64
	sizes             []int64

	matrix  promql.Matrix
	vectors []promql.Vector
	helper  promql.EvalNodeHelper

	// resets and deque are for floatFuncs.
	resets []int32
	seen   []int32
	deque  []int32
	sums   []float64
	// stripped are histograms without buckets.
	stripped []histogram.FloatHistogram
}

// window is a range of samples, the end exclusive.
type window struct{ lo, hi int32 }

// eval computes the row of one series, with the function over columns if there is
// one for its samples, with Prometheus's function otherwise.
func (k *rangeKernel) eval(w *worker, metric labels.Labels, s *Samples, out *row) error {
	out.labels = metric
	k.grid, k.w = w.sc.grid, w
	if k.resets = k.resets[:0]; !s.Rising && (s.H != nil || !k.counts() || !k.scanCounter(s.V)) {
		dropStale(s)
		if k.counts() {
			k.scanCounter(s.V)
		}
	}
	switch {
	case len(s.T) == 0:
		return nil
	case s.H != nil && k.stats && !k.strips():
		return unsupported("buckets of histograms are not needed")
	case s.H == nil && k.float != nil:
		k.windows = k.cut(k.windows, s.T)
		k.float(s, out)
		if w.err != nil {
			return w.err
		}
		k.tally(w, nil)
	default:
		if s.H != nil && k.stats {
			k.strip(s)
		}
		k.split(s)
		if err := k.generic(w, metric, out); err != nil {
			return err
		}
	}
	if out.n == 0 {
		return nil
	}
	k.checkCounter(w, metric, out)
	if !k.keepsName() {
		w.dropName(out)
	}
	return nil
}

// dropStale removes the stale markers.
func dropStale(s *Samples) {
	n := 0
	if s.H == nil {
		// Most series have none.
		for n < len(s.V) && !(s.V[n] != s.V[n] && value.IsStaleNaN(s.V[n])) {
			n++
		}
	}
	for i := n; i < len(s.V); i++ {
		v := s.V[i]
		stale := v != v && value.IsStaleNaN(v)
		if s.H != nil && s.H[i] != nil {
			stale = value.IsStaleNaN(s.H[i].Sum)
		}
		if stale {
			continue
		}
		s.T[n], s.V[n] = s.T[i], v
		if s.H != nil {
			s.H[n] = s.H[i]
		}
		n++
	}
	s.T, s.V = s.T[:n], s.V[:n]
	if s.H != nil {
		s.H = s.H[:n]
	}
}

// cut returns the windows of all steps over samples at the times ts. Where the range is
// a multiple of the step, a window begins where an earlier one ended.
func (k *rangeKernel) cut(ws []window, ts []int64) []window {
	ws = slices.Grow(ws[:0], k.grid.steps)[:k.grid.steps]
	end, step := k.end(0), k.stride()
	first := len(ws) // the first one that begins where one ended
	if step > 0 && k.rng >= step && k.rng%step == 0 {
		first = int(min(k.rng/step, int64(first)))
	}
	var lo, loMoved, hi, hiMoved int
	for i := range ws[:first] {
		next := after(ts, lo, loMoved, end-k.rng)
		lo, loMoved = next, next-lo
		next = after(ts, hi, hiMoved, end)
		hi, hiMoved = next, next-hi
		ws[i] = window{int32(lo), int32(hi)}
		end += step
	}
	for i, w := range ws[:len(ws)-first] {
		next := after(ts, hi, hiMoved, end)
		hi, hiMoved = next, next-hi
		ws[first+i] = window{w.hi, int32(hi)}
		end += step
	}
	return ws
}

// after returns the position of the first sample after the time t, which is pos or a
// later one. It tries whether moved more are before: mostly the windows move by equal
// numbers of samples.
func after(ts []int64, pos, moved int, t int64) int {
	if n := pos + moved; moved > 1 && n <= len(ts) && ts[n-1] <= t {
		pos = n
	}
	for pos < len(ts) && ts[pos] <= t {
		pos++
	}
	return pos
}

// tally counts the samples of the windows. A sample that was in the window of the
// step before is not read again. hsizes are running totals of the histograms'
// sizes.
func (k *rangeKernel) tally(w *worker, hsizes []int64) {
	if k.inner {
		return
	}
	var last, hlast int32
	if hsizes == nil && w.totalStep == nil {
		var total, read int64
		for _, win := range k.windows {
			total += int64(win.hi - win.lo)
			read += int64(win.hi - max(win.lo, last))
			last = max(win.hi, last)
		}
		w.count(0, total, read)
		return
	}
	for i, win := range k.windows {
		total, read := win.hi-win.lo, win.hi-max(win.lo, last)
		last = max(win.hi, last)
		var htotal, hread int64
		if hsizes != nil {
			h := k.hwindows[i]
			htotal = hsizes[h.hi] - hsizes[h.lo]
			hread = hsizes[h.hi] - hsizes[max(h.lo, min(hlast, h.hi))]
			hlast = max(h.hi, hlast)
		}
		w.count(i, int64(total)+htotal, int64(read)+hread)
	}
}

// split makes columns of the floats and the histograms of a series.
func (k *rangeKernel) split(s *Samples) {
	k.floats, k.hists = k.floats[:0], k.hists[:0]
	k.ht, k.sizes = k.ht[:0], append(k.sizes[:0], 0)
	if s.H == nil {
		for i, t := range s.T {
			k.floats = append(k.floats, promql.FPoint{T: t, F: s.V[i]})
		}
		k.windows = k.cut(k.windows, s.T)
		k.hwindows = k.cut(k.hwindows, nil)
		return
	}
	var ft []int64
	for i, t := range s.T {
		if h := s.H[i]; h != nil {
			k.hists = append(k.hists, promql.HPoint{T: t, H: h})
			k.ht = append(k.ht, t)
			k.sizes = append(k.sizes, k.sizes[len(k.sizes)-1]+histogramSamples(h))
			continue
		}
		k.floats = append(k.floats, promql.FPoint{T: t, F: s.V[i]})
		ft = append(ft, t)
	}
	k.windows = k.cut(k.windows, ft)
	k.hwindows = k.cut(k.hwindows, k.ht)
}

// callWork and histogramWork are the work of a call of Prometheus's function beside its
// samples, and that of a histogram, in samples.
const (
	callWork      = 16
	histogramWork = 64
)

// generic evaluates Prometheus's function on each window.
func (k *rangeKernel) generic(w *worker, metric labels.Labels, out *row) error {
	if k.matrix == nil {
		k.matrix = make(promql.Matrix, 1)
		k.vectors = make([]promql.Vector, len(k.params))
		for i := range k.vectors {
			k.vectors[i] = make(promql.Vector, 1)
		}
		k.helper.Out = make(promql.Vector, 0, 1)
	}
	k.matrix[0].Metric = metric
	for i, win := range k.windows {
		hwin := k.hwindows[i]
		if win.lo == win.hi && hwin.lo == hwin.hi {
			continue
		}
		for j := range k.params {
			k.vectors[j][0] = promql.Sample{F: k.params[j][i]}
		}
		k.matrix[0].Floats = k.floats[win.lo:win.hi]
		k.matrix[0].Histograms = k.hists[hwin.lo:hwin.hi]
		if w.ended(callWork + int(win.hi-win.lo) + histogramWork*int(hwin.hi-hwin.lo)) {
			return w.err
		}
		k.helper.Ts = k.grid.at(i)
		res, annos := k.call(k.vectors, k.matrix, k.args, &k.helper)
		if len(annos) > 0 {
			w.annos.Merge(annos)
		}
		k.helper.Out = res[:0]
		switch {
		case len(res) == 0:
		case res[0].H != nil:
			out.setHistogram(i, res[0].H)
		default:
			out.set(i, res[0].F)
		}
	}
	k.tally(w, k.sizes)
	return nil
}

// checkCounter adds the annotation for counters that do not look like ones.
func (k *rangeKernel) checkCounter(w *worker, metric labels.Labels, out *row) {
	if !k.counts() {
		return
	}
	name := metric.Get(model.MetricNameLabel)
	if name == "" || !hasFloat(out) {
		return
	}
	for _, suffix := range [...]string{"_total", "_sum", "_count", "_bucket"} {
		if strings.HasSuffix(name, suffix) {
			return
		}
	}
	w.annos.Add(annotations.NewPossibleNonCounterInfo(name, k.pos))
}

// hasFloat says that a row has a float.
func hasFloat(r *row) bool {
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
