package storerpc

import (
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
)

// The numbers of matcher types on the wire are those of labels.MatchType, and
// those of aggregates are those of storeapi.Aggregate.

func matchersFromWire(in []*storepb.LabelMatcher) ([]*labels.Matcher, error) {
	if len(in) > maxMatchers {
		return nil, fmt.Errorf("%w: the request has %d matchers; the limit is %d", storeapi.ErrInvalid, len(in), maxMatchers)
	}
	budget := newMatcherBudget()
	out := make([]*labels.Matcher, 0, len(in))
	for _, m := range in {
		if err := budget.take(m.GetName(), m.GetValue(), m.GetType() == storepb.LabelMatcher_RE || m.GetType() == storepb.LabelMatcher_NRE); err != nil {
			return nil, err
		}
		if m.GetType() < storepb.LabelMatcher_EQ || m.GetType() > storepb.LabelMatcher_NRE {
			return nil, fmt.Errorf("%w: matcher on %q has the unknown type %d", storeapi.ErrInvalid, m.GetName(), m.GetType())
		}
		lm, err := labels.NewMatcher(labels.MatchType(m.GetType()), m.GetName(), m.GetValue())
		if err != nil {
			return nil, fmt.Errorf("%w: matcher on %q: %w", storeapi.ErrInvalid, m.GetName(), err)
		}
		out = append(out, lm)
	}
	return out, nil
}

func matchersToWire(in []*labels.Matcher) []*storepb.LabelMatcher {
	out := make([]*storepb.LabelMatcher, 0, len(in))
	for _, m := range in {
		out = append(out, &storepb.LabelMatcher{Type: storepb.LabelMatcher_Type(m.Type), Name: m.Name, Value: m.Value})
	}
	return out
}

func strategyToWire(p storeapi.PartialResponse) storepb.PartialResponseStrategy {
	if p == storeapi.PartialAbort {
		return storepb.PartialResponseStrategy_ABORT
	}
	return storepb.PartialResponseStrategy_WARN
}

func strategyFromWire(disabled bool, s storepb.PartialResponseStrategy) storeapi.PartialResponse {
	if disabled || s == storepb.PartialResponseStrategy_ABORT {
		return storeapi.PartialAbort
	}
	return storeapi.PartialWarn
}

func limitFromWire(n int64) int {
	return int(max(0, min(n, math.MaxInt32)))
}

func labelsToWire(ls labels.Labels) *labelpb.ZLabelSet {
	set := &labelpb.ZLabelSet{}
	ls.Range(func(l labels.Label) {
		set.Labels = append(set.Labels, &labelpb.Label{Name: l.Name, Value: l.Value})
	})
	return set
}

func labelsFromWire(set *labelpb.ZLabelSet) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, l := range set.GetLabels() {
		b.Set(l.GetName(), l.GetValue())
	}
	return b.Labels()
}

// usableLabels is labelsFromWire without labels that break what follows: those without a
// name, those that are not UTF-8, which neither metrics nor JSON can have, and those that are
// too long for a label set. whole is false when there were such labels.
func usableLabels(set *labelpb.ZLabelSet) (ls labels.Labels, whole bool) {
	b := labels.NewBuilder(labels.EmptyLabels())
	whole = true
	for _, l := range set.GetLabels() {
		name, value := l.GetName(), l.GetValue()
		switch {
		case value == "": // the absence of the label
		case name == "", len(name) > maxLabelBytes, len(value) > maxLabelBytes, !utf8.ValidString(name), !utf8.ValidString(value):
			whole = false
		default:
			b.Set(name, value)
		}
	}
	return b.Labels(), whole
}

func seriesRequestToWire(r *storeapi.Request, batch int) (*storepb.SeriesRequest, error) {
	out := &storepb.SeriesRequest{
		MinTime:                 r.MinTime,
		MaxTime:                 r.MaxTime,
		Matchers:                matchersToWire(r.Matchers),
		MaxResolutionWindow:     r.MaxResolution,
		FillCoarser:             r.FillCoarser,
		PartialResponseDisabled: r.Partial == storeapi.PartialAbort,
		PartialResponseStrategy: strategyToWire(r.Partial),
		SkipChunks:              r.SkipChunks,
		QueryHints:              hintsToWire(r.Hints),
		ShardInfo:               shardToWire(r.Shard),
		WithoutReplicaLabels:    r.WithoutReplicaLabels,
		Limit:                   int64(r.Limit),
		ResponseBatchSize:       int64(batch),
	}
	for _, a := range r.Aggregates {
		out.Aggregates = append(out.Aggregates, storepb.Aggr(a))
	}
	addNames(out, sortWithoutField, r.SortWithout)
	var err error
	out.Hints, err = seriesHintsToWire(r)
	return out, err
}

// seriesRequestFromWire checks a request and converts it. The errors wrap
// storeapi.ErrInvalid. With strictHints, hints of an unknown type are an error;
// otherwise they are ignored.
func seriesRequestFromWire(in *storepb.SeriesRequest, strictHints bool) (*storeapi.Request, error) {
	if err := checkSeriesRequest(in); err != nil {
		return nil, err
	}
	ms, err := matchersFromWire(in.GetMatchers())
	if err != nil {
		return nil, err
	}
	sortWithout, err := readNames(in, sortWithoutField)
	if err != nil {
		return nil, err
	}
	r := &storeapi.Request{
		SortWithout:          sortWithout,
		MinTime:              in.GetMinTime(),
		MaxTime:              in.GetMaxTime(),
		Matchers:             ms,
		MaxResolution:        in.GetMaxResolutionWindow(),
		FillCoarser:          in.GetFillCoarser(),
		WithoutReplicaLabels: in.GetWithoutReplicaLabels(),
		Limit:                limitFromWire(in.GetLimit()),
		SkipChunks:           in.GetSkipChunks(),
		Shard:                shardFromWire(in.GetShardInfo()),
		Partial:              strategyFromWire(in.GetPartialResponseDisabled(), in.GetPartialResponseStrategy()),
		Hints:                hintsFromWire(in.GetQueryHints()),
	}
	for _, a := range in.GetAggregates() {
		r.Aggregates = append(r.Aggregates, storeapi.Aggregate(a))
	}
	return r, readRequestHints(in.GetHints(), strictHints, r)
}

func shardToWire(s *storeapi.Shard) *storepb.ShardInfo {
	if s == nil {
		return nil
	}
	return &storepb.ShardInfo{ShardIndex: s.Index, TotalShards: s.Total, By: s.By, Labels: s.Labels}
}

func shardFromWire(s *storepb.ShardInfo) *storeapi.Shard {
	if s.GetTotalShards() < 1 {
		return nil
	}
	return &storeapi.Shard{Index: s.GetShardIndex(), Total: s.GetTotalShards(), By: s.GetBy(), Labels: s.GetLabels()}
}

func hintsToWire(h *storeapi.Hints) *storepb.QueryHints {
	if h == nil {
		return nil
	}
	out := &storepb.QueryHints{
		StepMillis:          h.StepMillis,
		ProjectionLabels:    h.ProjectionLabels,
		ProjectionInclude:   h.ProjectionInclude,
		SeriesHashLabelName: h.SeriesHashLabelName,
	}
	if h.Func != "" {
		out.Func = &storepb.Func{Name: h.Func}
	}
	if h.By || len(h.Grouping) > 0 {
		out.Grouping = &storepb.Grouping{By: h.By, Labels: h.Grouping}
	}
	if h.RangeMillis != 0 {
		out.Range = &storepb.Range{Millis: h.RangeMillis}
	}
	return out
}

func hintsFromWire(h *storepb.QueryHints) *storeapi.Hints {
	if h == nil {
		return nil
	}
	return &storeapi.Hints{
		StepMillis:          h.GetStepMillis(),
		Func:                h.GetFunc().GetName(),
		RangeMillis:         h.GetRange().GetMillis(),
		Grouping:            h.GetGrouping().GetLabels(),
		By:                  h.GetGrouping().GetBy(),
		ProjectionLabels:    h.GetProjectionLabels(),
		ProjectionInclude:   h.GetProjectionInclude(),
		SeriesHashLabelName: h.GetSeriesHashLabelName(),
	}
}
