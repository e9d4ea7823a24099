package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/distribute"
	"github.com/hindsight-io/hindsight/pkg/query/endpoint"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// errRefused ends the evaluation with a part that a querier does not evaluate as this one
// would. All is evaluated here then.
var errRefused = errorid.Sentinel(errorid.QueryRefused, "querier did not evaluate its part of the query")

// partQueryable answers the selectors of parts with the results of queriers, and all
// others from the stores.
type partQueryable struct {
	storage.Queryable
	pushdown *pushdown
	asked    askedQuery
	names    []string
	parts    []distribute.Part
	refused  *atomic.Bool
	below    *belowWork
}

// belowWork sums what the stores below did for the parts of a query.
type belowWork struct {
	// samples are those that the evaluations there looked at; points are those of the
	// results, which the evaluation here looks at.
	samples, points atomic.Int64
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
	r := q.queryable.result(ctx, part)
	q.mtx.Lock()
	q.open = append(q.open, r)
	q.mtx.Unlock()
	return r
}

// result fetches a part in the background. The caller stops it at the end.
func (q *partQueryable) result(ctx context.Context, part distribute.Part) *partResult {
	inner, cancel := context.WithCancel(ctx)
	r := &partResult{ctx: ctx, queryable: q, cancel: cancel, done: make(chan struct{}), i: -1}
	go func() {
		defer close(r.done)
		r.series, r.ws, r.err = q.fetch(inner, part)
	}()
	return r
}

// part returns the part that a selector stands for.
func (q *partQueryable) part(ms []*labels.Matcher) (distribute.Part, bool) {
	for _, m := range ms {
		if m.Name != model.MetricNameLabel || m.Type != labels.MatchEqual {
			continue
		}
		if i := slices.Index(q.names, m.Value); i >= 0 {
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
		r.stop()
	}
	return q.Querier.Close()
}

// partResult is the result of a part as a set of series, sorted by labels.
type partResult struct {
	ctx       context.Context
	queryable *partQueryable
	cancel    context.CancelFunc
	done      chan struct{}
	i         int
	// lost is the error of a query that did not get its concurrency slot back.
	lost error

	// Valid once done is closed.
	series []promql.Series
	ws     annotations.Annotations
	err    error
}

// stop ends the part and waits until nothing of it runs.
func (r *partResult) stop() {
	r.cancel()
	<-r.done
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
func (r *partResult) At() storage.Series {
	s := &r.series[r.i]
	var out []chunks.Sample
	eachStep(s, r.queryable.asked.interval.Milliseconds(), func(t int64, f float64, h *histogram.FloatHistogram) {
		out = append(out, stepSample{t: t, f: f, h: h})
	})
	return storage.NewListSeries(s.Metric, out)
}

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

// withinShare leaves a quarter of the time of a request to an evaluation here, for a
// store below that hangs.
func (d *pushdown) withinShare(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left >= d.leastLeft {
			return context.WithTimeout(ctx, left*3/4)
		}
	}
	return context.WithCancel(ctx)
}

// fetch evaluates a part at all its queriers and returns their series, sorted.
func (q *partQueryable) fetch(ctx context.Context, part distribute.Part) ([]promql.Series, annotations.Annotations, error) {
	inner, cancel := q.pushdown.withinShare(ctx)
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
	gateways := slices.ContainsFunc(leaves, func(e *endpoint.Endpoint) bool { return e.Info().Evaluates != "" })
	if err := q.failed(ctx, failure, gateways); err != nil {
		return nil, nil, err
	}
	var ws annotations.Annotations
	var all []promql.Series
	for i := range results {
		r := &results[i]
		ws.Merge(q.annotateLeaf(ctx, part, leaves[i], r.ws))
		all = append(all, r.series...)
	}
	slices.SortStableFunc(all, func(a, b promql.Series) int { return labels.Compare(a.Metric, b.Metric) })
	for i := 1; i < len(all); i++ {
		if labels.Equal(all[i-1].Metric, all[i].Metric) {
			return nil, nil, q.refuse(fmt.Errorf("two stores have the series %s", all[i].Metric))
		}
	}
	return all, ws, nil
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

// evaluate asks one store. Its result, and the data that it read, count for the limits of
// the request.
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
	a := accountOf(ctx)
	if a != nil {
		r.Limits = storerpc.QueryLimits{Samples: a.limits.Samples, Series: a.limits.Series, Chunks: a.limits.Chunks, Bytes: a.limits.Bytes}
	}
	sum, err := e.Query(ctx, r, func(s promql.Series) error {
		if part.Merged {
			s.Metric = labels.NewBuilder(s.Metric).Set(distribute.LeafLabel, e.Name()).Labels()
		}
		samples, memory := weighResult(&s)
		q.below.points.Add(samples)
		if n := len(into.series); n > 0 && labels.Equal(into.series[n-1].Metric, s.Metric) {
			last := &into.series[n-1]
			last.Floats, last.Histograms = append(last.Floats, s.Floats...), append(last.Histograms, s.Histograms...)
		} else {
			into.series = append(into.series, s)
		}
		if a != nil {
			return a.add(ctx, counts{samples: samples}, memory, e.Name)
		}
		return nil
	})
	q.below.samples.Add(sum.Samples)
	if err == nil && a != nil {
		err = a.readBelow(sum.Read, e.Name)
	}
	return sum.Warnings, err
}

// weighResult is the samples that a series of a result counts for, and its memory.
func weighResult(s *promql.Series) (samples, memory int64) {
	size := int64(s.Metric.ByteSize()) + 16*int64(len(s.Floats))
	samples = int64(len(s.Floats))
	for _, h := range s.Histograms {
		n := int64(h.H.Size())
		size, samples = size+n, samples+n/16
	}
	return samples, 4*size + seriesOverhead
}

// failed returns the error of the part when a store failed. The end of the request is
// final. After any other failure all is evaluated here: that gives the error of the
// expression or of the limit, or the answer without the stores that are missing. A limit
// that a querier met is final, too: it read for long, and has the limits of this one. Those of
// gateways may be lower.
func (q *partQueryable) failed(ctx context.Context, err error, gateways bool) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errBusy), !gateways && errors.Is(err, limit.ErrExceeded):
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

// annotateLeaf makes the warnings of a store below part of the answer. Annotations of its
// evaluation are those of this one; all others say that something is missing.
func (q *partQueryable) annotateLeaf(ctx context.Context, part distribute.Part, e *endpoint.Endpoint, ws storeapi.Warnings) annotations.Annotations {
	var as annotations.Annotations
	var others storeapi.Warnings
	for _, w := range ws {
		if a := newLeafAnnotation(w.Text); a != nil {
			as.Add(a)
		} else {
			others = append(others, w)
		}
	}
	report := storeapi.ReportFromContext(ctx)
	q.reportMissing(report, part, e.Name(), e.Info(), others)
	as.Merge(annotate(others, report))
	return as
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
