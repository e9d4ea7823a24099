package query

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
)

// streams implements streamer: what is left of a query is evaluated series by series.
func (q *partQueryable) streams() eval.Storage {
	s, ok := q.Queryable.(streamer)
	if !ok {
		return nil
	}
	return &partStreams{Storage: s.streams(), queryable: q}
}

// partStreams is the eval.Storage of a query of which parts are pushed down. It may be
// used concurrently.
type partStreams struct {
	eval.Storage
	queryable *partQueryable
}

// Select implements eval.Storage.
func (s *partStreams) Select(ctx context.Context, sel eval.Selector) eval.SeriesStream {
	part, ok := s.queryable.part(sel.Matchers)
	if !ok {
		return s.Storage.Select(ctx, sel)
	}
	return &partStream{partResult: s.queryable.result(ctx, part), end: sel.Hints.End}
}

// partStream is the result of a part as a stream of series.
type partStream struct {
	*partResult
	// end bounds the samples, inclusive, in milliseconds.
	end int64
}

// At implements eval.SeriesStream.
func (s *partStream) At() eval.Series {
	return &partSeries{of: &s.series[s.i], step: s.queryable.asked.interval.Milliseconds(), end: s.end}
}

// Close implements eval.SeriesStream.
func (s *partStream) Close() error {
	s.stop()
	return nil
}

// partSeries is a series of a result, whose newest sample at each step of the query is
// that of the step, or none.
type partSeries struct {
	of        *promql.Series
	step, end int64
}

// Labels implements eval.Series.
func (s *partSeries) Labels() labels.Labels { return s.of.Metric }

// Release implements eval.Series. The result stays until the end of the query.
func (s *partSeries) Release() {}

// Decode implements eval.Series.
func (s *partSeries) Decode(dst *eval.Samples) error {
	dst.T, dst.V, dst.H, dst.Rising = dst.T[:0], dst.V[:0], nil, false
	if len(s.of.Histograms) > 0 {
		dst.H = make([]*histogram.FloatHistogram, 0, len(s.of.Floats)+len(s.of.Histograms)+1)
	}
	eachStep(s.of, s.step, func(t int64, f float64, h *histogram.FloatHistogram) {
		if t > s.end {
			return
		}
		dst.T, dst.V = append(dst.T, t), append(dst.V, f)
		if dst.H != nil {
			dst.H = append(dst.H, h)
		}
	})
	return nil
}

// eachStep calls f for the samples of a result, in the order of their times. A stale
// marker stands where a step has no sample after one that has, so that no step takes
// the sample of another; step is 0 for an instant query.
func eachStep(s *promql.Series, step int64, f func(t int64, f float64, h *histogram.FloatHistogram)) {
	fs, hs := s.Floats, s.Histograms
	stale := math.Float64frombits(value.StaleNaN)
	var last int64
	for n := 0; len(fs)+len(hs) > 0; n++ {
		var t int64
		var v float64
		var h *histogram.FloatHistogram
		if len(hs) == 0 || len(fs) > 0 && fs[0].T < hs[0].T {
			t, v, fs = fs[0].T, fs[0].F, fs[1:]
		} else {
			t, h, hs = hs[0].T, hs[0].H, hs[1:]
		}
		if n > 0 && step > 0 && t > last+step {
			f(last+step, stale, nil)
		}
		f(t, v, h)
		last = t
	}
	if step > 0 && len(s.Floats)+len(s.Histograms) > 0 {
		f(last+step, stale, nil)
	}
}
