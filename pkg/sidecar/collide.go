package sidecar

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// collisions finds different series of one answer that have equal labels. The parts
// of the answer are those with and without labels that external ones hide; two
// series that differ only in a hidden label become equal. Merging compares the next
// series of the parts, so that both are current at the same time. One goroutine uses
// it.
type collisions struct {
	// kinds of the parts: the hidden labels of the series of a part, without the
	// labels that are removed. Parts of one kind hold replicas.
	kinds []labels.Labels
	next  []labels.Labels // of each part, empty at its end
	first labels.Labels
}

// watch returns parts that report each series to c. The first of them has the
// warning.
func (c *collisions) watch(parts []storeapi.SeriesSet) []storeapi.SeriesSet {
	c.next = make([]labels.Labels, len(parts))
	out := make([]storeapi.SeriesSet, len(parts))
	for i, p := range parts {
		out[i] = &watchedSet{SeriesSet: p, c: c, part: i}
	}
	return out
}

// see records the next series of a part, and whether it collides with that of another
// part.
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

// watchedSet reports its series to collisions.
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
