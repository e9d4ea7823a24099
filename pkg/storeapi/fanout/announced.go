package fanout

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// maxCheckedSets bounds the announced label sets that a series is compared with.
// A store with more, as a receiver of many tenants, may have got another one since
// its last Info answer.
const maxCheckedSets = 64

// announced compares the series of one store with the request and with the label
// sets that the store announced. Stores are chosen by these, so a store that
// announces other labels than it sends would be left out of later answers.
type announced struct {
	// wanted are the matchers that each series has to satisfy.
	wanted []*labels.Matcher
	sets   []labels.Labels
	// removed are the labels that the answer does not have.
	removed []string
	// kept are the labels of each set that the answer still has.
	kept [][]labels.Label
	// selectors says that the announced labels need not be on the series: queriers
	// announce selector labels.
	selectors bool
	// last is the set that matched last, and other the one before it: neighbours are
	// often of one set, or of those of two replicas.
	last, other int
}

func newAnnounced(t *target, removed []string) *announced {
	a := &announced{sets: t.info.LabelSets, removed: removed, selectors: t.info.Component == "query"}
	for _, set := range a.sets[:min(len(a.sets), maxCheckedSets)] {
		a.kept = append(a.kept, keptOf(set, removed))
	}
	for _, m := range t.ms {
		if !slices.Contains(removed, m.Name) {
			a.wanted = append(a.wanted, m)
		}
	}
	return a
}

// keptOf are the labels of the set but for the removed ones.
func keptOf(set labels.Labels, removed []string) (kept []labels.Label) {
	set.Range(func(l labels.Label) {
		if !slices.Contains(removed, l.Name) {
			kept = append(kept, l)
		}
	})
	return kept
}

// unannounced is a series that has the labels of none of the announced sets.
type unannounced struct {
	labels labels.Labels
	// removed are the labels that the answer with the series does not have.
	removed []string
}

// within reports whether the series has the labels of one of the sets.
func (u unannounced) within(sets []labels.Labels) bool {
	return slices.ContainsFunc(sets, func(set labels.Labels) bool { return has(u.labels, keptOf(set, u.removed)) })
}

// selected reports whether the request selects the series.
func (a *announced) selected(ls labels.Labels) bool {
	for _, m := range a.wanted {
		v := ls.Get(m.Name)
		if m.Matches(v) || v == "" && a.selectors && a.mayAnnounce(m) {
			continue
		}
		return false
	}
	return true
}

func (a *announced) mayAnnounce(m *labels.Matcher) bool {
	return slices.ContainsFunc(a.sets, func(ls labels.Labels) bool { return ls.Has(m.Name) && m.Matches(ls.Get(m.Name)) })
}

// expected reports whether the series has the labels of one of the announced
// sets. It is true when that cannot be decided.
func (a *announced) expected(ls labels.Labels) bool {
	if len(a.sets) == 0 || len(a.sets) > maxCheckedSets || a.selectors {
		return true
	}
	if has(ls, a.kept[a.last]) {
		return true
	}
	if has(ls, a.kept[a.other]) {
		a.last, a.other = a.other, a.last
		return true
	}
	for i := range a.kept {
		if has(ls, a.kept[i]) {
			a.last, a.other = i, a.last
			return true
		}
	}
	return false
}

// has reports whether the series has all labels of the set.
func has(ls labels.Labels, set []labels.Label) bool {
	for i := range set {
		if ls.Get(set[i].Name) != set[i].Value {
			return false
		}
	}
	return true
}

// trusted returns the announcement without its label sets when the store was seen
// to send series with others: it may have series with any labels. A store whose external
// labels have changed announces them with its next Info answer, and is trusted from then
// on.
func (s *Store) trusted(info storeapi.Info, name string) storeapi.Info {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	switch seen, ok := s.mislabeled[name]; {
	case !ok || len(info.LabelSets) == 0:
	case seen.within(info.LabelSets):
		delete(s.mislabeled, name)
	default:
		info.LabelSets = nil
	}
	return info
}

// Trusted is the announcement of a store with a name, without its label sets when the
// store was seen to send series with others. Stores are chosen by it.
func (s *Store) Trusted(info storeapi.Info, name string) storeapi.Info { return s.trusted(info, name) }

func (s *Store) markMislabeled(name string, example unannounced) {
	s.mtx.Lock()
	_, known := s.mislabeled[name]
	if !known {
		s.mislabeled[name] = example
	}
	s.mtx.Unlock()
	if !known {
		s.metrics.mislabeled.Inc()
		s.cfg.Logger.Warn("store sends series without the labels that it announces", "address", name, "example", cut(example.labels.String()))
	}
}

// seen reports whether the name is in the set.
func (s *Store) seen(set map[string]bool, name string) bool {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return set[name]
}

// note adds the name to the set, and reports whether it is new.
func (s *Store) note(set map[string]bool, name string) bool {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	known := set[name]
	set[name] = true
	return !known
}
