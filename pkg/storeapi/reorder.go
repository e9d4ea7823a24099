package storeapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Reorder turns the series inside a store into those of the answer, in the order
// of the answer.
//
// Adding labels holds back at most as many series as one of them has labels,
// and usually none. Removing labels that the series carry holds back series that
// agree on all labels before the first removed one; and, unless an external
// label sorts behind the removed ones, all series that agree on their first
// label, which may be a whole metric: a series that consists of a prefix of the
// others' labels and a removed one is read last and must be returned first. Own
// and NoPrefixes spare that for data that has no such series.
//
// A series that comes too late for its place all the same, because it has no
// label of its own left or a promise was wrong, is left out with a warning.
type Reorder struct {
	// External labels are added and override equal names.
	External labels.Labels
	// Drop are the names that are removed, from External too.
	Drop []string
	// Order is that of the answer. The labels that it leaves out stay in the answer;
	// where series carry them it holds back as many series as if they were removed,
	// and external ones are free.
	Order Order
	// Own reports whether any series in the store may carry a label of that name;
	// nil means that all may. The index of a block or of a TSDB knows it, and
	// mostly replica labels are external ones only: then nothing is held back.
	Own func(name string) bool
	// NoPrefixes promises that no series, once labels are removed, is a strict
	// prefix of one before it; see HasLatePrefixes.
	NoPrefixes bool
}

// Apply returns the series of set, which must be in order. It owns set.
func (r Reorder) Apply(set SeriesSet) SeriesSet {
	rw := newRewriter(r)
	if len(rw.ext) == 0 && len(rw.gone) == 0 {
		return set
	}
	return &reorderSet{SeriesSet: set, rw: rw, held: heldSeries{order: r.Order}}
}

// MayHoldBack reports whether Apply could hold back whole metrics, so that it is
// worth to ask HasLatePrefixes first.
func (r Reorder) MayHoldBack() bool {
	rw := newRewriter(r)
	if !rw.holdBack || len(rw.gone) == 0 {
		return false
	}
	counted := rw.splicer.counted
	return counted == 0 || rw.ext[counted-1].Name < rw.gone[len(rw.gone)-1]
}

// HasLatePrefixes reads set, which needs no chunks, and reports whether NoPrefixes
// would be a wrong promise for it. It leaves closing set to the caller.
func (r Reorder) HasLatePrefixes(set SeriesSet) (bool, error) {
	r.NoPrefixes = true
	rs, ok := r.Apply(set).(*reorderSet)
	if !ok {
		return false, nil // nothing changes
	}
	for rs.Next() {
		if rs.late != nil {
			return true, nil
		}
	}
	return rs.late != nil, rs.Err()
}

type reorderSet struct {
	SeriesSet
	rw   *rewriter
	held heldSeries
	cur  Series
	// spare are the chunks of a held series that was returned and is over.
	spare []Chunk
	// bound is a lower bound of all later series. Instead, when only labels
	// are added, newest is the one held series that has to wait.
	bound  labels.Labels
	newest int
	seq    int
	ended  bool
	late   Warnings
	// last and hidden are of the series that was returned before, see collide.
	last     labels.Labels
	hidden   string
	collided Warnings
}

func (s *reorderSet) Next() bool {
	for {
		if s.held.len() > 0 && s.ready() {
			e := s.held.pop()
			s.cur = e.Series
			s.spare = s.cur.Chunks
			s.collide(e.hidden)
			return true
		}
		if s.ended {
			return false
		}
		if s.read() {
			return true
		}
	}
}

// ready reports whether the smallest held series is smaller than all to come.
func (s *reorderSet) ready() bool {
	switch {
	case s.ended:
		return true
	case s.newest > 0:
		return s.held.first().seq != s.newest
	}
	return s.isBefore(s.held.first().Labels)
}

// isBefore reports whether a series comes before all that are still to be read.
func (s *reorderSet) isBefore(lset labels.Labels) bool {
	c := s.rw.order.CompareKeys(lset, s.bound)
	return c < 0 || c == 0 && !s.rw.mayTie
}

// read takes one series from below. It says true when the series is already the
// next one to return, so that it need not be held.
func (s *reorderSet) read() bool {
	if !s.SeriesSet.Next() {
		s.ended = true
		if s.SeriesSet.Err() != nil {
			s.held.entries = nil
		}
		return false
	}
	in := s.SeriesSet.At()
	out, ok := s.place(in.Labels)
	if !ok {
		return false
	}
	if s.held.len() == 0 && s.newest == 0 && s.isBefore(out) {
		s.cur = Series{Labels: out, Chunks: in.Chunks}
		s.collide(s.rw.hidden)
		return true
	}
	s.held.push(heldEntry{Series: Series{Labels: out, Chunks: append(s.spare[:0], in.Chunks...)}, seq: s.seq, hidden: s.rw.hidden})
	s.spare = nil
	return false
}

// collide warns when the series that is returned now got the labels of the one
// before it because external labels override the labels in which they differ.
// hidden are the labels of it that were overridden.
func (s *reorderSet) collide(hidden string) {
	if s.collided == nil && hidden != s.hidden && labels.Equal(s.last, s.cur.Labels) {
		name, _, _ := strings.Cut(cmp.Or(hidden, s.hidden), "\xff")
		s.collided = Warnings{{Text: fmt.Sprintf(
			collision+", because their label %q is hidden by the external label of that name: %s", name, s.cur.Labels)}}
	}
	s.last, s.hidden = s.cur.Labels, hidden
}

// place rewrites a label set and updates the bound of later ones. ok is
// false when it is left out.
func (s *reorderSet) place(lset labels.Labels) (out labels.Labels, ok bool) {
	s.seq++
	s.newest = 0
	out, waits := s.rw.add(lset)
	if s.rw.simple {
		s.bound = out
		if waits {
			s.newest = s.seq
		}
		return out, true
	}
	out, bound, kept := s.rw.rewrite(lset)
	if s.rw.canBeLate(kept) && s.rw.order.Compare(out, s.cur.Labels) < 0 {
		if s.late == nil {
			s.late = Warnings{{Text: "left out a series that came too late for its place: " + lset.String()}}
		}
		return out, false
	}
	s.bound = bound
	return out, true
}

func (s *reorderSet) At() Series { return s.cur }

func (s *reorderSet) Warnings() Warnings {
	return append(slices.Concat(s.late, s.collided), s.SeriesSet.Warnings()...)
}
