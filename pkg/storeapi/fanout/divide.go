package fanout

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Bounds of the requests into which one is divided: those with constant replica
// labels, and all together.
const (
	maxConstant = 8
	maxParts    = 16
)

// part is one of several requests that together ask a store for what one request asks
// it for. No series belongs to two of them.
type part struct {
	// matchers are added to those of the request.
	matchers []*labels.Matcher
	// constant are those labels that the wanted order leaves out, which all series of
	// the part have; meaningless when rest is set.
	constant labels.Labels
	// rest says that the series of the part may have any values of these labels, other
	// than the store announces. Usually there are none.
	rest bool
}

// divide divides the request for a store that cannot sort without labels that stay, but
// without labels that it removes, as Thanos stores can: one part for each combination
// of values that the store announces for the labels. The store is asked to remove them,
// and they are added again here, which changes no order; nothing is held. Series with
// other values are the rest, which is read first and sorted here. ok is false when that
// would be too many parts, and when the store may ignore the matchers: a querier
// does so for the labels that it is selected by.
func (a *asking) divide(t *target) (parts []part, ok bool) {
	if t.info.Component == "query" || a.store.seen(a.store.unsorted, t.name) {
		return nil, false
	}
	var rest []part
	var before []*labels.Matcher // select the values of the names so far
	constant := []part{{}}
	for _, name := range a.kept() {
		values := t.announcedValues(name)
		if len(values) == 0 {
			constant, rest = nil, append(rest, part{rest: true, matchers: before})
			break
		}
		var next []part
		for _, p := range constant {
			for _, v := range values {
				b := labels.NewBuilder(p.constant).Set(name, v)
				next = append(next, part{
					matchers: append(slices.Clip(p.matchers), labels.MustNewMatcher(labels.MatchEqual, name, v)), constant: b.Labels(),
				})
			}
		}
		if constant = next; len(constant) > maxConstant {
			return nil, false
		}
		if !t.selectsOnly(name, values) {
			rest = append(rest, part{rest: true, matchers: append(slices.Clip(before), oneOf(name, values, false))})
		}
		before = append(slices.Clip(before), oneOf(name, values, true))
	}
	parts = append(rest, constant...)
	return parts, len(parts) <= maxParts
}

// kept are the labels that the wanted order leaves out and the answer has.
func (a *asking) kept() (names []string) {
	for _, name := range a.r.SortWithout {
		if !slices.Contains(a.r.WithoutReplicaLabels, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// announcedValues are the values of a label in those announced label sets that the
// matchers can select, and "" where a set does not have it. A matcher may allow one
// value only.
func (t *target) announcedValues(name string) (values []string) {
	for _, m := range t.ms {
		if m.Name == name && m.Type == labels.MatchEqual {
			return []string{m.Value}
		}
	}
	sets := storeapi.Concerned(t.info.LabelSets, [][]*labels.Matcher{t.ms})
	if len(t.info.LabelSets) == 0 {
		sets = []labels.Labels{labels.EmptyLabels()}
	}
	for _, ls := range sets {
		v := ls.Get(name)
		contradicts := slices.ContainsFunc(t.ms, func(m *labels.Matcher) bool { return m.Name == name && !m.Matches(v) })
		if !contradicts && !slices.Contains(values, v) && len(values) <= maxConstant {
			values = append(values, v)
		}
	}
	return values
}

// selectsOnly reports whether the matchers select no other values of a label.
func (t *target) selectsOnly(name string, values []string) bool {
	return slices.ContainsFunc(t.ms, func(m *labels.Matcher) bool {
		return m.Name == name && m.Type == labels.MatchEqual && slices.Contains(values, m.Value)
	})
}

// oneOf returns the matcher that selects the values of a label, or all others.
func oneOf(name string, values []string, is bool) *labels.Matcher {
	how := map[bool]labels.MatchType{true: labels.MatchRegexp, false: labels.MatchNotRegexp}[is]
	if len(values) == 1 {
		how = map[bool]labels.MatchType{true: labels.MatchEqual, false: labels.MatchNotEqual}[is]
		return labels.MustNewMatcher(how, name, values[0])
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return labels.MustNewMatcher(how, name, strings.Join(quoted, "|"))
}

// arrangeParts asks a store for all parts of the request r and merges the answers. The
// parts that have to be held are asked first, and read to their end, so that they wait
// for no stream that is open and not read.
func (a *asking) arrangeParts(t *target, r *storeapi.Request, parts []part, ask func(*storeapi.Request) storeapi.SeriesSet) (set storeapi.SeriesSet, failed error) {
	order := a.r.Order()
	sets := make([]storeapi.SeriesSet, len(parts))
	for i, p := range parts {
		asked := *r
		asked.Matchers = append(slices.Clip(r.Matchers), p.matchers...)
		if p.rest {
			o := &orderedSet{SeriesSet: ask(&asked), order: order, holding: a.holding(t.name), check: a.obeys(t, p)}
			if o.readAll(nil); o.Err() != nil {
				return storeapi.Merge(append(sets[:i:i], o), order), o.Err()
			}
			sets[i] = o
			continue
		}
		asked.WithoutReplicaLabels = append(slices.Clip(r.WithoutReplicaLabels), a.kept()...)
		sets[i] = storeapi.Reorder{
			External: p.constant, Order: order, Own: func(string) bool { return false },
		}.Apply(ask(&asked))
	}
	for i, p := range parts {
		if p.rest {
			continue
		}
		o := a.store.inOrder(sets[i], order, t.name)
		if sets[i] = o; o.all && failed == nil {
			failed = o.Err()
		}
	}
	return storeapi.Merge(sets, order), failed
}

// errDisobeyed is the error of a store that ignores the matchers of a part: its whole
// answer has to be sorted here.
var errDisobeyed = errors.New("store ignores matchers")

// obeys returns the check of the series of a part: a store that ignores matchers is not
// asked in parts again.
func (a *asking) obeys(t *target, p part) func(labels.Labels) error {
	return func(ls labels.Labels) error {
		for _, m := range p.matchers {
			if !m.Matches(ls.Get(m.Name)) {
				a.store.note(a.store.unsorted, t.name)
				return fmt.Errorf("%w: series %s does not match %s", errDisobeyed, ls, m)
			}
		}
		return nil
	}
}
