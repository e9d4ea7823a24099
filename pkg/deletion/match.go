package deletion

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/chunkmask"
)

// Set is an immutable set of requests. It may be used concurrently.
type Set struct{ requests []*Compiled }

// NewSet makes a set.
func NewSet(requests ...*Compiled) *Set { return &Set{requests: requests} }

// list are the requests of the set.
func (s *Set) list() []*Compiled {
	if s == nil {
		return nil
	}
	return s.requests
}

// Target describes data that requests may apply to.
type Target struct {
	// External are the labels that all series of the data have in addition to their
	// own, and that override them. They decide about matchers of these names.
	External labels.Labels
	// MinTime and MaxTime bound the data, inclusive, in milliseconds.
	MinTime, MaxTime int64
	// Matchers are those that all series of the data satisfy; none if unknown.
	Matchers []*labels.Matcher
}

// For returns the part of the set that may apply to the target, nil if none does.
func (s *Set) For(t Target) *Scope {
	if s == nil {
		return nil
	}
	sc := &Scope{index: map[string]map[string][]rule{}}
	for _, r := range s.requests {
		if r.MinTime > t.MaxTime || t.MinTime > r.MaxTime {
			continue
		}
		applies := false
		for _, ms := range r.selectors {
			rest, ok := split(ms, t.External)
			if !ok || contradict(rest, t.Matchers) {
				continue
			}
			applies = true
			sc.add(rule{matchers: rest, interval: tombstones.Interval{Mint: r.MinTime, Maxt: r.MaxTime}})
		}
		if applies {
			sc.applies = true
		}
	}
	if !sc.applies {
		return nil
	}
	return sc
}

// split takes the matchers on external labels away. ok is false if one of them does
// not match.
func split(ms []*labels.Matcher, ext labels.Labels) (rest []*labels.Matcher, ok bool) {
	for _, m := range ms {
		switch {
		case !ext.Has(m.Name):
			rest = append(rest, m)
		case !m.Matches(ext.Get(m.Name)):
			return nil, false
		}
	}
	return rest, true
}

// contradict says whether no series can satisfy both: one side demands a value that
// the other one excludes.
func contradict(a, b []*labels.Matcher) bool {
	excluded := func(value, by *labels.Matcher) bool {
		return value.Type == labels.MatchEqual && value.Name == by.Name && !by.Matches(value.Value)
	}
	for _, x := range a {
		for _, y := range b {
			if excluded(x, y) || excluded(y, x) {
				return true
			}
		}
	}
	return false
}

// rule is one selector of a request.
type rule struct {
	matchers []*labels.Matcher
	interval tombstones.Interval
}

func (r *rule) matches(lset labels.Labels) bool {
	for _, m := range r.matchers {
		if !m.Matches(lset.Get(m.Name)) {
			return false
		}
	}
	return true
}

// Scope is the requests that may apply to some data. It may be used concurrently.
type Scope struct {
	// applies says whether any request may apply.
	applies bool
	// all apply to every series.
	all tombstones.Intervals
	// index has the rules that demand one value of a label, by name and value; a series
	// is compared only with those of its own values.
	index map[string]map[string][]rule
	// rest are the other rules.
	rest []rule
	// matchers are those of all rules.
	matchers [][]*labels.Matcher
}

func (s *Scope) add(r rule) {
	s.matchers = append(s.matchers, r.matchers)
	if len(r.matchers) == 0 {
		s.all = chunkmask.Add(s.all, r.interval)
		return
	}
	i := slices.IndexFunc(r.matchers, func(m *labels.Matcher) bool { return demands(m) && m.Name == "__name__" })
	if i < 0 {
		i = slices.IndexFunc(r.matchers, demands)
	}
	if i < 0 {
		s.rest = append(s.rest, r)
		return
	}
	m := r.matchers[i]
	if s.index[m.Name] == nil {
		s.index[m.Name] = map[string][]rule{}
	}
	s.index[m.Name][m.Value] = append(s.index[m.Name][m.Value], r)
}

func demands(m *labels.Matcher) bool { return m.Type == labels.MatchEqual && m.Value != "" }

// Matchers are those of each selector that may match, without those on external
// labels. An empty list matches every series. They must not be changed.
func (s *Scope) Matchers() [][]*labels.Matcher { return s.matchers }

// Deleted returns the inclusive intervals of a series whose samples are deleted, sorted
// and without overlaps; none if no request matches. lset are its labels without the
// external labels of the target.
func (s *Scope) Deleted(lset labels.Labels) tombstones.Intervals {
	if s == nil {
		return nil
	}
	var out tombstones.Intervals
	for _, i := range s.all {
		out = chunkmask.Add(out, i)
	}
	for name, values := range s.index {
		for _, r := range values[lset.Get(name)] {
			if r.matches(lset) {
				out = chunkmask.Add(out, r.interval)
			}
		}
	}
	for _, r := range s.rest {
		if r.matches(lset) {
			out = chunkmask.Add(out, r.interval)
		}
	}
	return out
}

// Names says whether any rule has a matcher on the label.
func (s *Scope) Names(label string) bool {
	return slices.ContainsFunc(s.matchers, func(ms []*labels.Matcher) bool {
		return slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return m.Name == label })
	})
}
