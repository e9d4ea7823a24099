package bucketblock

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
)

// seriesCost is about the cost, in bytes, of reading one series that a postings list
// would have ruled out.
const seriesCost = 512

// group is the postings lists of one label that together select series, or
// together rule series out.
type group struct {
	name  string
	lists []indexheader.Postings
	bytes int64 // of the lists
	count int64 // of series in the lists, at most
}

func (g *group) add(p indexheader.Postings) {
	g.lists = append(g.lists, p)
	g.bytes += p.Length
	g.count += p.Count()
}

// selection says how to find the series that matchers select: those in every
// group of with, in no group of without, and accepted by filter.
type selection struct {
	// none means that no series can match.
	none          bool
	with, without []group
	filter        []*labels.Matcher
}

// laziness says when matchers become filters.
type laziness struct {
	ratio float64 // values per series; 0 means no bound
	eager bool    // never filter
}

// choose decides which postings lists to fetch. A list that costs more bytes
// than it saves series is not fetched: the matchers of its label are applied to
// the decoded series instead.
func choose(h *indexheader.Header, ms []*labels.Matcher, lz laziness) selection {
	byName := groupByName(ms)
	var cheap, scans []nameMatchers
	for _, n := range byName {
		if n.direct() {
			cheap = append(cheap, n)
		} else {
			scans = append(scans, n)
		}
	}
	total := max(1, h.AllPostings().Count())
	var sel selection
	least := total
	for _, n := range cheap {
		sel.collect(h, n)
		if sel.none {
			return selection{none: true}
		}
	}
	for _, g := range sel.with {
		least = min(least, g.count)
	}
	for i, n := range scans {
		l := h.Label(n.name)
		first := len(sel.with) == 0 && i == 0
		if !lz.eager && lz.ratio > 0 && !first && float64(l.Len()) > lz.ratio*float64(max(1, least)) {
			sel.filter = append(sel.filter, n.ms...)
			continue
		}
		sel.collect(h, n)
		if sel.none {
			return selection{none: true}
		}
	}
	if !lz.eager {
		sel.makeLazy(byName, total)
	}
	if len(sel.with) == 0 {
		all := group{}
		all.add(h.AllPostings())
		sel.with = append(sel.with, all)
	}
	return sel
}

// makeLazy turns groups that are not worth their bytes into filters.
func (s *selection) makeLazy(byName []nameMatchers, total int64) {
	filter := func(name string) {
		for _, n := range byName {
			if n.name == name {
				s.filter = append(s.filter, n.ms...)
			}
		}
	}
	slices.SortStableFunc(s.with, func(a, b group) int { return cmp.Compare(a.count, b.count) })
	series := float64(total)
	with := s.with[:0]
	for i, g := range s.with {
		share := min(1, float64(g.count)/float64(total))
		if i > 0 && float64(g.bytes) > series*(1-share)*seriesCost {
			filter(g.name)
			continue
		}
		if i == 0 {
			series = float64(g.count)
		} else {
			series = max(1, series*share)
		}
		with = append(with, g)
	}
	s.with = with
	without := s.without[:0]
	for _, g := range s.without {
		share := min(1, float64(g.count)/float64(total))
		if float64(g.bytes) > series*share*seriesCost {
			filter(g.name)
			continue
		}
		without = append(without, g)
	}
	s.without = without
}

// collect adds the lists that the matchers of one label mean.
func (s *selection) collect(h *indexheader.Header, n nameMatchers) {
	l := h.Label(n.name)
	g := group{name: n.name}
	if n.wantsEmpty() {
		// Series without the label match too, and they are in no list: rule out
		// the values that do not match.
		n.candidates(l, func(i int, v string) {
			if !n.matches(v) {
				g.add(l.Postings(i))
			}
		})
		if len(g.lists) > 0 {
			s.without = append(s.without, g)
		}
		return
	}
	n.candidates(l, func(i int, v string) {
		if n.matches(v) {
			g.add(l.Postings(i))
		}
	})
	if len(g.lists) == 0 {
		s.none = true
		return
	}
	s.with = append(s.with, g)
}

// nameMatchers are all matchers on one label.
type nameMatchers struct {
	name string
	ms   []*labels.Matcher
}

func groupByName(ms []*labels.Matcher) []nameMatchers {
	var out []nameMatchers
	at := make(map[string]int, len(ms))
	for _, m := range ms {
		if m.Type == labels.MatchRegexp && m.Value == ".*" {
			continue // matches everything
		}
		i, ok := at[m.Name]
		if !ok {
			i = len(out)
			at[m.Name] = i
			out = append(out, nameMatchers{name: m.Name})
		}
		out[i].ms = append(out[i].ms, m)
	}
	return out
}

func (n nameMatchers) matches(v string) bool {
	for _, m := range n.ms {
		if !m.Matches(v) {
			return false
		}
	}
	return true
}

// wantsEmpty says whether series without the label match.
func (n nameMatchers) wantsEmpty() bool { return n.matches("") }

// direct says whether the values in question are known without a scan.
func (n nameMatchers) direct() bool {
	_, ok := n.values()
	return ok
}

// values returns a superset of the values that candidates must test: those that may
// match, or, when series without the label match, those that may not.
func (n nameMatchers) values() ([]string, bool) {
	empty := n.wantsEmpty()
	for _, m := range n.ms {
		switch {
		case !empty && m.Type == labels.MatchEqual:
			return []string{m.Value}, true
		case !empty && m.Type == labels.MatchRegexp && len(m.SetMatches()) > 0:
			return m.SetMatches(), true
		case empty && len(n.ms) == 1 && m.Type == labels.MatchNotEqual:
			return []string{m.Value}, true
		case empty && len(n.ms) == 1 && m.Type == labels.MatchNotRegexp && len(m.SetMatches()) > 0:
			return m.SetMatches(), true
		}
	}
	return nil, false
}

// candidates calls f for the values that are in question, in ascending order
// and each once.
func (n nameMatchers) candidates(l indexheader.Label, f func(i int, v string)) {
	if vs, ok := n.values(); ok {
		slices.Sort(vs)
		for _, v := range slices.Compact(vs) {
			if i, ok := l.Find(v); ok {
				f(i, v)
			}
		}
		return
	}
	lo, hi := 0, l.Len()
	if !n.wantsEmpty() {
		for _, m := range n.ms {
			if m.Type == labels.MatchRegexp && m.Prefix() != "" {
				lo, hi = l.Prefix(m.Prefix())
				break
			}
		}
	}
	for i := lo; i < hi; i++ {
		f(i, l.Value(i))
	}
}
