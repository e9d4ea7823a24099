package sidecar

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// collisions notices series of different parts of one answer that have equal
// labels. The parts are those with and without labels that external ones hide, so
// such series are different ones that nobody can tell apart any more. Merging
// the parts compares their next series, so that both are here at the same time.
// It belongs to one goroutine.
type collisions struct {
	// kinds of the parts: what the series of a part have hidden, apart from labels
	// that are removed anyhow. Those of parts of one kind are replicas.
	kinds []labels.Labels
	next  []labels.Labels // of each part, empty at its end
	first labels.Labels
}

// watch returns the parts so that c sees them; the first of them reports.
func (c *collisions) watch(parts []storeapi.SeriesSet) []storeapi.SeriesSet {
	c.next = make([]labels.Labels, len(parts))
	out := make([]storeapi.SeriesSet, len(parts))
	for i, p := range parts {
		out[i] = &watchedSet{SeriesSet: p, c: c, part: i}
	}
	return out
}

func (c *collisions) see(part int, ls labels.Labels) {
	c.next[part] = ls
	if !c.first.IsEmpty() || ls.IsEmpty() {
		return
	}
	for i, other := range c.next {
		if i != part && labels.Equal(other, ls) && !labels.Equal(c.kinds[i], c.kinds[part]) {
			c.first = ls
		}
	}
}

type watchedSet struct {
	storeapi.SeriesSet
	c    *collisions
	part int
}

func (s *watchedSet) Next() bool {
	if !s.SeriesSet.Next() {
		s.c.see(s.part, labels.EmptyLabels())
		return false
	}
	s.c.see(s.part, s.SeriesSet.At().Labels)
	return true
}

func (s *watchedSet) Warnings() storeapi.Warnings {
	ws := s.SeriesSet.Warnings()
	if s.part > 0 || s.c.first.IsEmpty() {
		return ws
	}
	return append(storeapi.Warnings{storeapi.CollisionWarning(s.c.first)}, ws...)
}
