package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// errDownsampled ends an attempt to answer a query from raw data.
var errDownsampled = errors.New("only downsampled data is left of a part of the time")

// reading is one attempt to answer a query. The first one takes it that there is
// raw data, as nearly always, and costs nothing beside Prometheus. Where a store
// has nothing but downsampled data of a part of the time it ends, and the query
// is evaluated once more, with plans.
type reading struct {
	// plans are nil in the first attempt.
	plans plans
	// lookback is how long a raw sample is taken for alive, in milliseconds; 0
	// leaves that to the engine.
	lookback int64
	// downsampled says that the attempt met downsampled data.
	downsampled atomic.Bool
}

type readingKey struct{}

func withReading(ctx context.Context, r *reading) context.Context {
	return context.WithValue(ctx, readingKey{}, r)
}

// readingOf returns nil when no engine asks.
func readingOf(ctx context.Context) *reading {
	r, _ := ctx.Value(readingKey{}).(*reading)
	return r
}

// plan returns the plan of a selector, or nil. A selector that stands in no
// expression, such as that of info(), is an instant selector.
func (r *reading) plan(ms []*labels.Matcher) *selectorPlan {
	if r == nil || r.plans == nil {
		return nil
	}
	if len(ms) > 0 {
		if p := r.plans[ms[0]]; p != nil {
			return p
		}
	}
	return instantPlan(scope{limit: math.MaxInt64})
}

// meet is called with each series that was read. An attempt without plans ends
// with the first downsampled chunk.
func (r *reading) meet(chunks []storeapi.Chunk) error {
	if r == nil || r.plans != nil || allRaw(chunks) {
		return nil
	}
	r.downsampled.Store(true)
	return errDownsampled
}

// apply changes the request and the view of a selector as its plan says.
func (p *selectorPlan) apply(r *storeapi.Request, v *view, reading *reading, hints *storage.SelectHints) {
	if p == nil || hints == nil || r.SkipChunks {
		return
	}
	r.Aggregates = p.aggrs
	r.MaxResolution = min(r.MaxResolution, p.limit)
	if p.raw {
		r.MaxResolution = 0
	}
	// A window that began before the range may end in it, and one that ends
	// after it may count: whether a series goes on shows in its next sample.
	if r.MinTime > math.MinInt64+aggr.Resolution1h {
		r.MinTime -= aggr.Resolution1h
	}
	if r.MaxTime < math.MaxInt64-aggr.Resolution1h {
		r.MaxTime += aggr.Resolution1h
	}
	v.aggrs, v.plan = p.aggrs, p
	if p.span == 0 && reading.lookback > 0 {
		v.lookback = reading.lookback
		v.maxt = max(v.maxt, r.MaxTime)
	}
}

// doubts returns the annotations for an answer that a selector contributed to with
// data of the resolution.
func (p *selectorPlan) doubts(resolution int64) annotations.Annotations {
	var as annotations.Annotations
	if p == nil || resolution == 0 {
		return as
	}
	res := model.Duration(time.Duration(resolution) * time.Millisecond)
	if p.raw {
		as.Add(fmt.Errorf("%w: %s needs every sample, but only data of a resolution of %s is left of a part of the time; the answer is an estimate", annotations.PromQLWarning, p.fn, res))
	}
	if resolution > p.limit {
		as.Add(fmt.Errorf("%w: the range of %s is too short for data of a resolution of %s, and nothing finer is left of a part of the time; results are missing or wrong there", annotations.PromQLWarning, p.fn, res))
	}
	return as
}
