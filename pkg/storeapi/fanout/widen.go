package fanout

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// widened adds a matcher that all series satisfy where a store would otherwise
// refuse the request. By contract a store takes off the matchers that its external
// labels satisfy, and refuses a selection of series without any other; users
// select by external labels as by all others. Where Prometheus's own API is
// behind the store, a matcher is needed that an absent label does not satisfy:
// requests without chunks go there.
func (t *target) widened(r *storeapi.Request) []*labels.Matcher {
	sets := t.info.LabelSets
	if len(sets) == 0 {
		sets = []labels.Labels{labels.EmptyLabels()}
	}
	api := r.SkipChunks && t.mayBePrometheus()
	for _, ls := range sets {
		rest, ok := storeapi.MatchExternal(ls, t.ms)
		if !ok {
			continue
		}
		if api && !slices.ContainsFunc(rest, excludesEmpty) {
			return append(slices.Clip(t.ms), anyName(".+"))
		}
		if len(rest) == 0 {
			return append(slices.Clip(t.ms), anyName(".*"))
		}
	}
	return t.ms
}

// widenedLabels is widened for label calls, which may come without matchers, but
// not with such as an absent label satisfies only.
func (t *target) widenedLabels() []*labels.Matcher {
	if !t.mayBePrometheus() {
		return t.ms
	}
	for _, ls := range t.info.LabelSets {
		rest, ok := storeapi.MatchExternal(ls, t.ms)
		if ok && len(rest) > 0 && !slices.ContainsFunc(rest, excludesEmpty) {
			return append(slices.Clip(t.ms), anyName(".+"))
		}
	}
	return t.ms
}

// mayBePrometheus reports whether the store may pass the request on to the HTTP API
// of a Prometheus server. Stores without a name of their own are in this process.
func (t *target) mayBePrometheus() bool {
	switch t.info.Component {
	case "store", "receive", "rule":
		return false
	}
	return t.named
}

func excludesEmpty(m *labels.Matcher) bool { return !m.Matches("") }

func anyName(pattern string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, pattern)
}
