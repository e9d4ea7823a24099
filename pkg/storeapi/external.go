package storeapi

import "github.com/prometheus/prometheus/model/labels"

// MatchExternal splits the matchers of a request for a store with the external
// labels ext. ok is false when a matcher contradicts ext: the store has nothing
// to return. rest are the matchers on other labels; those that ext satisfies are
// dropped, because series inside the store do not carry the external labels, or
// carry other values that ext overrides.
func MatchExternal(ext labels.Labels, ms []*labels.Matcher) (rest []*labels.Matcher, ok bool) {
	rest = make([]*labels.Matcher, 0, len(ms))
	for _, m := range ms {
		if !ext.Has(m.Name) {
			rest = append(rest, m)
			continue
		}
		if !m.Matches(ext.Get(m.Name)) {
			return nil, false
		}
	}
	return rest, true
}
