package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
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

	mtx sync.Mutex
	// used are the times of the data that was read, by its resolution.
	used map[int64]readTime
}

// readTime is a time from the first to the last millisecond, inclusive.
type readTime struct{ mint, maxt int64 }

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
// with the first downsampled chunk; others note the resolutions.
func (r *reading) meet(chunks []storeapi.Chunk) error {
	if r != nil && r.plans != nil {
		r.note(chunks)
		return nil
	}
	if r == nil || allRaw(chunks) {
		return nil
	}
	r.downsampled.Store(true)
	return errDownsampled
}

// note adds the times of the chunks to those of their resolutions.
func (r *reading) note(chunks []storeapi.Chunk) {
	var all []int64 // nil where all chunks are raw, as most are
	if !allRaw(chunks) {
		all = aggr.Resolutions(chunks)
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.used == nil {
		r.used = map[int64]readTime{}
	}
	for i := range chunks {
		res, mint, maxt := int64(0), chunks[i].MinTime, chunks[i].MaxTime
		if all != nil {
			res = all[i]
		}
		if res > 0 {
			mint -= res - 1 // the begin of the window
		}
		if have, ok := r.used[res]; ok {
			mint, maxt = min(mint, have.mint), max(maxt, have.maxt)
		}
		r.used[res] = readTime{mint, maxt}
	}
}

// resolutionsRead begins the text of the annotation that names the resolutions.
const resolutionsRead = "resolutions of the data read"

// ofResolutions reports whether an answer, of this querier or of one below, has data that
// is not raw.
func ofResolutions(as annotations.Annotations) bool {
	for _, err := range as {
		if errors.Is(err, annotations.PromQLInfo) && strings.Contains(err.Error(), resolutionsRead) {
			return true
		}
	}
	return false
}

// resolutions returns the annotation that names the resolutions of the data in an
// answer, each with its time; nil when all is raw.
func (r *reading) resolutions() error {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	var parts []string
	for _, res := range slices.Backward(slices.Sorted(maps.Keys(r.used))) {
		name := "raw"
		if res > 0 {
			name = model.Duration(time.Duration(res) * time.Millisecond).String()
		} else if len(parts) == 0 {
			return nil
		}
		u := r.used[res]
		parts = append(parts, fmt.Sprintf("%s from %s to %s", name, date(u.mint), date(u.maxt)))
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: %s", annotations.PromQLInfo, resolutionsRead, strings.Join(parts, ", "))
}

func date(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

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
		as.Add(fmt.Errorf("%w: %s needs every sample, but only data of a resolution of %s is left of a part of the time; the answer is an estimate", annotations.PromQLWarning, p.fn.Name, res))
	}
	if resolution > p.limit {
		effect := "each value there is an average over the whole window"
		if p.spread == 0 {
			effect = "results are missing or wrong there"
		}
		as.Add(fmt.Errorf("%w: the range of %s is too short for data of a resolution of %s, and nothing finer is left of a part of the time; %s", annotations.PromQLWarning, p.fn.Name, res, effect))
	}
	return as
}
