package storeapi

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
)

// ExemplarRequest asks for the exemplars of some series in a range of time.
type ExemplarRequest struct {
	// Selectors choose the series: those that satisfy all matchers of any
	// selector. A selector without matchers chooses every series; no selector
	// chooses none.
	Selectors [][]*labels.Matcher
	// MinTime and MaxTime are inclusive milliseconds.
	MinTime, MaxTime int64
	// Partial is the answer to a failure of a part of the stores.
	Partial PartialResponse
	// StoreMatchers select the stores of a fan-out as in a Request. Never sent
	// over the wire.
	StoreMatchers [][]*labels.Matcher
}

// ExemplarSeries are exemplars of one series, at least one, in the order of
// their times.
type ExemplarSeries struct {
	Labels    labels.Labels
	Exemplars []exemplar.Exemplar
}

// ExemplarStore is a source of exemplars.
type ExemplarStore interface {
	// Exemplars returns the exemplars that r chooses, one entry for each series,
	// in the order of their labels, external ones added. The answer belongs to
	// the caller.
	Exemplars(ctx context.Context, r *ExemplarRequest) ([]ExemplarSeries, Warnings, error)
}

// PruneSelectors returns the selectors for data with the external labels ext:
// without those that ext contradicts, and without matchers that it satisfies.
func PruneSelectors(ext labels.Labels, selectors [][]*labels.Matcher) [][]*labels.Matcher {
	var out [][]*labels.Matcher
	for _, ms := range selectors {
		if rest, ok := MatchExternal(ext, ms); ok {
			out = append(out, rest)
		}
	}
	return out
}

// AnySelects reports whether one of the selectors chooses the series.
func AnySelects(selectors [][]*labels.Matcher, series labels.Labels) bool {
	return slices.ContainsFunc(selectors, func(ms []*labels.Matcher) bool {
		return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(series.Get(m.Name)) })
	})
}

// ExternalExemplars is the answer of a store with the external labels ext that
// found these series inside itself. It uses the memory of found.
func ExternalExemplars(ext labels.Labels, found []exemplar.QueryResult) []ExemplarSeries {
	out := make([]ExemplarSeries, 0, len(found))
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, f := range found {
		b.Reset(f.SeriesLabels)
		ext.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		out = append(out, ExemplarSeries{Labels: b.Labels(), Exemplars: f.Exemplars})
	}
	return MergeExemplars(out, nil)
}

// MergeExemplars drops the labels named in without and joins what then are the
// same series. Of identical exemplars one stays, and series without any go away.
// It uses the memory of all.
func MergeExemplars(all []ExemplarSeries, without []string) []ExemplarSeries {
	if len(without) > 0 {
		b := labels.NewBuilder(labels.EmptyLabels())
		for i := range all {
			b.Reset(all[i].Labels)
			all[i].Labels = b.Del(without...).Labels()
		}
	}
	slices.SortStableFunc(all, func(a, b ExemplarSeries) int { return labels.Compare(a.Labels, b.Labels) })
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && labels.Equal(out[n-1].Labels, s.Labels) {
			out[n-1].Exemplars = append(out[n-1].Exemplars, s.Exemplars...)
		} else if len(s.Exemplars) > 0 {
			out = append(out, s)
		}
	}
	for i := range out {
		slices.SortStableFunc(out[i].Exemplars, compareExemplars)
		out[i].Exemplars = slices.CompactFunc(out[i].Exemplars, func(a, b exemplar.Exemplar) bool {
			return compareExemplars(a, b) == 0
		})
	}
	return out
}

// compareExemplars is a total order, also of values that are not numbers.
func compareExemplars(a, b exemplar.Exemplar) int {
	return cmp.Or(
		cmp.Compare(a.Ts, b.Ts),
		cmp.Compare(a.Value, b.Value),
		cmp.Compare(math.Float64bits(a.Value), math.Float64bits(b.Value)),
		labels.Compare(a.Labels, b.Labels),
	)
}
