package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/distribute"
	"github.com/hindsight-io/hindsight/pkg/query/endpoint"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// errRefused ends the evaluation with a part that a querier does not evaluate as this one
// would. All is evaluated here then.
var errRefused = errors.New("querier did not evaluate its part of the query")

// partQueryable answers the selectors of parts with the results of queriers, and all
// others from the stores.
type partQueryable struct {
	storage.Queryable
	pushdown *pushdown
	asked    askedQuery
	mark     string
	parts    []distribute.Part
	refused  *atomic.Bool
}

// Querier implements storage.Queryable.
func (q *partQueryable) Querier(mint, maxt int64) (storage.Querier, error) {
	inner, err := q.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &partQuerier{Querier: inner, queryable: q}, nil
}

type partQuerier struct {
	storage.Querier
	queryable *partQueryable

	mtx  sync.Mutex
	open []*partResult
}

// Select implements storage.Querier.
func (q *partQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	part, ok := q.queryable.part(ms)
	if !ok {
		return q.Querier.Select(ctx, sorted, hints, ms...)
	}
	inner, cancel := context.WithCancel(ctx)
	r := &partResult{ctx: ctx, cancel: cancel, done: make(chan struct{}), i: -1}
	q.mtx.Lock()
	q.open = append(q.open, r)
	q.mtx.Unlock()
	go func() {
		defer close(r.done)
		r.series, r.ws, r.err = q.queryable.fetch(inner, part)
	}()
	return r
}

// part returns the part that a selector stands for.
func (q *partQueryable) part(ms []*labels.Matcher) (distribute.Part, bool) {
	for _, m := range ms {
		if m.Name != partLabel {
			continue
		}
		number, ok := strings.CutPrefix(m.Value, q.mark+"/")
		if i, err := strconv.Atoi(number); ok && err == nil && i < len(q.parts) {
			return q.parts[i], true
		}
	}
	return distribute.Part{}, false
}

// Close ends what is still on its way, and waits for it.
func (q *partQuerier) Close() error {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	for _, r := range q.open {
		r.cancel()
		<-r.done
	}
	return q.Querier.Close()
}

// partResult is the result of a part as a set of series, sorted by labels.
type partResult struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	i      int
	// lost is the error of a query that did not get its concurrency slot back.
	lost error

	// Valid once done is closed.
	series []storage.Series
	ws     annotations.Annotations
	err    error
}

func (r *partResult) wait() bool {
	if r.lost == nil {
		r.lost = accountOf(r.ctx).await(r.ctx, r.done)
	}
	return r.lost == nil
}

// Next implements storage.SeriesSet.
func (r *partResult) Next() bool {
	if !r.wait() || r.err != nil || r.i+1 >= len(r.series) {
		return false
	}
	r.i++
	return true
}

// At implements storage.SeriesSet.
func (r *partResult) At() storage.Series { return r.series[r.i] }

// Err implements storage.SeriesSet.
func (r *partResult) Err() error {
	if !r.wait() {
		return r.lost
	}
	return r.err
}

// Warnings implements storage.SeriesSet.
func (r *partResult) Warnings() annotations.Annotations {
	if !r.wait() {
		return nil
	}
	return r.ws
}

// fetch evaluates a part at all its queriers and returns their series, sorted.
func (q *partQueryable) fetch(ctx context.Context, part distribute.Part) ([]storage.Series, annotations.Annotations, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	leaves := q.endpoints(part.Leaves)
	if len(leaves) != len(part.Leaves) {
		return nil, nil, q.refuse(errors.New("a querier is not among the endpoints any more"))
	}
	results := make([]leafResult, len(leaves))
	var wg sync.WaitGroup
	var first sync.Once
	var failure error
	for i, e := range leaves {
		wg.Go(func() {
			ws, err := q.evaluate(inner, e, part, &results[i])
			if results[i].ws = ws; err != nil {
				first.Do(func() { failure = err })
				cancel() // the other results are of no use
			}
		})
	}
	wg.Wait()
	if err := q.failed(ctx, failure); err != nil {
		return nil, nil, err
	}
	var ws annotations.Annotations
	var all []promql.Series
	for i := range results {
		r := &results[i]
		ws.Merge(annotateLeaf(r.ws, storeapi.ReportFromContext(ctx)))
		all = append(all, r.series...)
	}
	slices.SortStableFunc(all, func(a, b promql.Series) int { return labels.Compare(a.Metric, b.Metric) })
	out := make([]storage.Series, len(all))
	for i := range all {
		if i > 0 && labels.Equal(all[i-1].Metric, all[i].Metric) {
			return nil, nil, q.refuse(fmt.Errorf("two queriers have the series %s", all[i].Metric))
		}
		out[i] = q.atSteps(&all[i])
	}
	return out, ws, nil
}

// leafResult is the result of one querier.
type leafResult struct {
	series []promql.Series
	ws     storeapi.Warnings
}

func (q *partQueryable) endpoints(names []string) []*endpoint.Endpoint {
	var out []*endpoint.Endpoint
	for _, e := range q.pushdown.set.Endpoints() {
		if slices.Contains(names, e.Name()) {
			out = append(out, e)
		}
	}
	return out
}

// evaluate asks one querier. The series count for the limits of the request.
func (q *partQueryable) evaluate(ctx context.Context, e *endpoint.Endpoint, part distribute.Part, into *leafResult) (storeapi.Warnings, error) {
	o := q.pushdown.queryable.cfg.options(ctx)
	r := &storerpc.QueryRequest{
		Query: part.Query, Start: q.asked.start, End: q.asked.end, Step: q.asked.interval,
		Lookback: q.asked.lookback, MaxResolution: time.Duration(o.MaxSourceResolution) * time.Millisecond,
		Dedup: o.Dedup, ReplicaLabels: o.ReplicaLabels, Partial: storeapi.PartialAbort, Settings: q.pushdown.cfg.settings(),
	}
	if o.PartialResponse {
		r.Partial = storeapi.PartialWarn
	}
	return e.Query(ctx, r, func(s promql.Series) error {
		if part.Merged {
			s.Metric = labels.NewBuilder(s.Metric).Set(distribute.LeafLabel, e.Name()).Labels()
		}
		c, memory := weighResult(&s)
		if n := len(into.series); n > 0 && labels.Equal(into.series[n-1].Metric, s.Metric) {
			last := &into.series[n-1]
			last.Floats, last.Histograms = append(last.Floats, s.Floats...), append(last.Histograms, s.Histograms...)
			c.series = 0
		} else {
			into.series = append(into.series, s)
		}
		if a := accountOf(ctx); a != nil {
			return a.add(ctx, c, memory, e.Name)
		}
		return nil
	})
}

// weighResult is what a series of a result counts for, and its memory.
func weighResult(s *promql.Series) (counts, int64) {
	size := int64(s.Metric.ByteSize()) + 16*int64(len(s.Floats))
	samples := int64(len(s.Floats))
	for _, h := range s.Histograms {
		n := int64(h.H.Size())
		size, samples = size+n, samples+n/16
	}
	return counts{samples: samples, series: 1, bytes: size}, 4*size + seriesOverhead
}

// failed returns the error of the part when a querier failed. A limit, and the end of the
// request, are final. After any other failure all is evaluated here: that gives the error
// of the expression, or the answer without the stores that are missing.
func (q *partQueryable) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, limit.ErrExceeded), errors.Is(err, errBusy):
		return err
	case ctx.Err() != nil:
		return ended(ctx, err)
	}
	return q.refuse(err)
}

func (q *partQueryable) refuse(err error) error {
	q.refused.Store(true)
	return fmt.Errorf("%w: %w", errRefused, err)
}

// annotateLeaf makes the warnings of a querier part of the answer. Annotations of its
// evaluation are those of this one; all others say that something is missing.
func annotateLeaf(ws storeapi.Warnings, report *storeapi.Report) annotations.Annotations {
	var as annotations.Annotations
	var others storeapi.Warnings
	for _, w := range ws {
		if text, ok := strings.CutPrefix(w.Text, annotations.PromQLInfo.Error()+": "); ok {
			as.Add(fmt.Errorf("%w: %s", annotations.PromQLInfo, text))
		} else if text, ok := strings.CutPrefix(w.Text, annotations.PromQLWarning.Error()+": "); ok {
			as.Add(fmt.Errorf("%w: %s", annotations.PromQLWarning, text))
		} else {
			others = append(others, w)
		}
	}
	as.Merge(annotate(others, report))
	return as
}

// atSteps is a series whose newest sample at each step of the query is that of the step,
// or none: a stale marker stands where a sample is followed by none.
func (q *partQueryable) atSteps(s *promql.Series) storage.Series {
	out := make([]chunks.Sample, 0, len(s.Floats)+len(s.Histograms)+1)
	fs, hs := s.Floats, s.Histograms
	step := q.asked.interval.Milliseconds()
	for len(fs)+len(hs) > 0 {
		var p stepSample
		if len(hs) == 0 || len(fs) > 0 && fs[0].T < hs[0].T {
			p, fs = stepSample{t: fs[0].T, f: fs[0].F}, fs[1:]
		} else {
			p, hs = stepSample{t: hs[0].T, h: hs[0].H}, hs[1:]
		}
		if n := len(out); n > 0 && step > 0 && p.t > out[n-1].T()+step {
			out = append(out, stepSample{t: out[n-1].T() + step, f: math.Float64frombits(value.StaleNaN)})
		}
		out = append(out, p)
	}
	if n := len(out); n > 0 && step > 0 {
		out = append(out, stepSample{t: out[n-1].T() + step, f: math.Float64frombits(value.StaleNaN)})
	}
	return storage.NewListSeries(s.Metric, out)
}

// stepSample is a float, or a histogram where h is set.
type stepSample struct {
	t int64
	f float64
	h *histogram.FloatHistogram
}

// T implements chunks.Sample, and so do the other methods.
func (p stepSample) T() int64                      { return p.t }
func (p stepSample) ST() int64                     { return 0 }
func (p stepSample) F() float64                    { return p.f }
func (p stepSample) H() *histogram.Histogram       { return nil }
func (p stepSample) FH() *histogram.FloatHistogram { return p.h }
func (p stepSample) Type() chunkenc.ValueType {
	if p.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

func (p stepSample) Copy() chunks.Sample {
	if p.h != nil {
		p.h = p.h.Copy()
	}
	return p
}
