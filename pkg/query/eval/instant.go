package eval

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
)

// instantKernel looks up the last sample within the lookback of each step.
type instantKernel struct {
	lookback, offset int64
	at               *int64
	// timestamps says that the result is the time of the sample, in seconds.
	timestamps bool
	// floats says that only floats are supported: Prometheus's engine drops the
	// buckets of histograms here.
	floats bool
	// counts says that it drops them, and that it makes no difference beside the
	// statistics.
	counts bool
}

// instantSelector compiles a selector of an instant vector.
func (c *compiler) instantSelector(vs *parser.VectorSelector) (plan, error) {
	sel, err := c.selector(vs)
	if err != nil {
		return nil, err
	}
	k := &instantKernel{lookback: c.lookback, counts: vs.SkipHistogramBuckets}
	k.floats = k.counts && !c.direct[vs]
	k.offset, k.at = reference(vs)
	return &leafPlan{selector: sel, kernel: k}, nil
}

// timestamp compiles timestamp() of a selector. Prometheus's engine ignores the
// offset of a selector with @ here, so such a selector is not supported.
func (c *compiler) timestamp(_ *parser.Call, vs *parser.VectorSelector) (plan, error) {
	sel, err := c.selector(vs)
	if err != nil {
		return nil, err
	}
	k := &instantKernel{lookback: c.lookback, timestamps: true}
	k.offset, k.at = reference(vs)
	if k.at != nil && k.offset != 0 {
		// The time that it looks up is outside of the hints of the selector.
		return nil, unsupported("timestamp of a selector with @ and offset")
	}
	return &leafPlan{selector: sel, kernel: k, noName: true}, nil
}

func (k *instantKernel) prepare(context.Context, *scope) (func() kernel, error) {
	return func() kernel { return k }, nil
}

// eval looks up each step, in the order of time: the cursor over the samples only
// moves forward.
func (k *instantKernel) eval(w *worker, metric labels.Labels, s *Samples, out *row) error {
	out.labels = metric
	if s.H != nil && k.floats {
		return unsupported("buckets of histograms are not needed")
	}
	g := w.sc.grid
	next := 0 // the first sample after the time of the step
	for i := range g.steps {
		ref := g.at(i)
		if k.at != nil {
			ref = *k.at
		}
		ref -= k.offset
		for next < len(s.T) && s.T[next] <= ref {
			next++
		}
		if next == 0 || s.T[next-1] <= ref-k.lookback {
			continue
		}
		k.set(w, s, next-1, i, out)
	}
	if k.timestamps && out.n > 0 {
		w.dropName(out)
	}
	return nil
}

// set stores sample j at step i, unless it is a stale marker.
func (k *instantKernel) set(w *worker, s *Samples, j, i int, out *row) {
	if s.H != nil && s.H[j] != nil {
		h := s.H[j]
		if value.IsStaleNaN(h.Sum) {
			return
		}
		if !k.timestamps {
			n := histogramSamples(h)
			if k.counts {
				n = histogramSamples(&histogram.FloatHistogram{})
			}
			w.count(i, n, n)
			out.setHistogram(i, h)
			return
		}
	} else if value.IsStaleNaN(s.V[j]) {
		return
	}
	w.count(i, 1, 1)
	if k.timestamps {
		out.set(i, float64(s.T[j])/1000)
		return
	}
	out.set(i, s.V[j])
}
