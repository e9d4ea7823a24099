package query

import (
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// seriesFunc is the function hint of the API that lists series.
const seriesFunc = "series"

// selectRequest is the request to the stores for one selector of a query. The
// bounds are those of the querier; the hints may narrow them.
//
// p.ReplicaLabels are all labels to remove. Where samples are wanted the stores
// keep them: they say which chunks are of one source. Then the limit cannot be
// left to the stores either, which would count replicas.
func selectRequest(p queryopts.Options, mint, maxt int64, hints *storage.SelectHints, ms []*labels.Matcher) *storeapi.Request {
	r := baseRequest(p, mint, maxt, ms)
	if len(r.Matchers) == 0 {
		// Federation and remote read may ask for all series; stores want a matcher.
		r.Matchers = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".*")}
	}
	r.MaxResolution = p.MaxSourceResolution
	r.Shard = shard(p)
	if hints == nil {
		r.Aggregates = aggr.ForFunc("")
		return r
	}
	r.MinTime, r.MaxTime, r.Limit = hints.Start, hints.End, hints.Limit
	if hints.Func == seriesFunc {
		if p.Dedup {
			r.WithoutReplicaLabels = p.ReplicaLabels
		}
		r.SkipChunks, r.MaxResolution = true, math.MaxInt64
		return r
	}
	if p.Dedup && len(p.ReplicaLabels) > 0 {
		r.Limit = 0
	}
	r.Aggregates = aggr.ForFunc(hints.Func)
	r.MaxResolution = aggr.MaxResolution(hints.Func, hints.Range, p.MaxSourceResolution)
	r.Hints = &storeapi.Hints{
		StepMillis: hints.Step, Func: hints.Func, RangeMillis: hints.Range,
		// The engine sorts its slice while the request is on its way.
		Grouping: slices.Clone(hints.Grouping), By: hints.By,
	}
	return r
}

// shard is the part of the series that is asked for. Replica labels have no part
// in the hash: all replicas of a series are in one shard.
func shard(p queryopts.Options) *storeapi.Shard {
	if p.Shard == nil {
		return nil
	}
	s := &storeapi.Shard{Index: p.Shard.Index, Total: p.Shard.Total, By: p.Shard.By, Labels: p.Shard.Labels}
	switch {
	case !p.Dedup:
	case s.By:
		s.Labels = slices.DeleteFunc(slices.Clone(s.Labels), func(n string) bool { return slices.Contains(p.ReplicaLabels, n) })
	default:
		s.Labels = slices.Concat(s.Labels, p.ReplicaLabels)
	}
	return s
}

// labelsRequest is the request to the stores for names or values of labels. It
// never removes replica labels: they are labels like all others there.
func labelsRequest(p queryopts.Options, mint, maxt int64, hints *storage.LabelHints, ms []*labels.Matcher) *storeapi.Request {
	r := baseRequest(p, mint, maxt, ms)
	r.SkipChunks, r.MaxResolution = true, math.MaxInt64
	if hints != nil {
		r.Limit = hints.Limit
	}
	return r
}

func baseRequest(p queryopts.Options, mint, maxt int64, ms []*labels.Matcher) *storeapi.Request {
	r := &storeapi.Request{
		MinTime: mint, MaxTime: maxt,
		Matchers:      enforce(p.Enforced, ms),
		Partial:       storeapi.PartialWarn,
		StoreMatchers: p.StoreMatchers,
		FillCoarser:   true,
		Columns:       true,
	}
	if !p.PartialResponse {
		r.Partial = storeapi.PartialAbort
	}
	return r
}

// enforce adds must, which may be nil. Where it names one tenant it replaces all
// matchers on its label, as Thanos does; among several tenants a request may choose.
func enforce(must *labels.Matcher, ms []*labels.Matcher) []*labels.Matcher {
	if must == nil {
		return ms
	}
	if must.Type != labels.MatchEqual {
		return append(slices.Clip(ms), must)
	}
	out := slices.DeleteFunc(slices.Clone(ms), func(m *labels.Matcher) bool { return m.Name == must.Name })
	return append(out, must)
}
