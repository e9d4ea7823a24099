package storeapi

import (
	"container/heap"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// ReorderSet adds the external labels ext to every series of set, overriding
// equal names, removes the labels named in drop, from ext too, and returns the
// series in the order of the result. set must be in order before that.
//
// Adding labels holds back at most as many series as one of them has labels,
// and usually none. Removing labels holds back a group of series that agree on
// their first label, and only when such a label is in the data or, for want of
// external labels that sort behind the others, could be: a series that consists
// of a prefix of the others' labels and the removed one comes last and must be
// returned first. NoPrefixes spares that for data that has no such series.
//
// A series that has no label of its own left may come too late for its place;
// it is then left out with a warning.
func ReorderSet(set SeriesSet, ext labels.Labels, drop []string) SeriesSet {
	return reorder(set, newRewriter(ext, drop, true))
}

// ReorderSetNoPrefixes is ReorderSet for a set of which it is known that no
// series, once labels are removed, is a strict prefix of one before it. It holds
// back only series that agree on all labels before the first removed one.
func ReorderSetNoPrefixes(set SeriesSet, ext labels.Labels, drop []string) SeriesSet {
	return reorder(set, newRewriter(ext, drop, false))
}

func reorder(set SeriesSet, rw *rewriter) SeriesSet {
	if len(rw.ext) == 0 && len(rw.drop) == 0 {
		return set
	}
	return &reorderSet{SeriesSet: set, rw: rw}
}

type reorderSet struct {
	SeriesSet
	rw       *rewriter
	held     heldSeries
	cur      Series
	bound    labels.Labels
	seq      int
	ended    bool
	warnings Warnings
}

// heldEntry is a series that waits for its turn. Its chunk slice is a copy.
type heldEntry struct {
	Series
	seq int
}

func (s *reorderSet) Next() bool {
	for {
		if len(s.held) > 0 && (s.ended || labels.Compare(s.held[0].Labels, s.bound) <= 0) {
			s.cur = heap.Pop(&s.held).(heldEntry).Series
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

// read takes one series from below. It says true when the series is already the
// next one to return, so that it need not be held.
func (s *reorderSet) read() bool {
	if !s.SeriesSet.Next() {
		s.ended = true
		if s.SeriesSet.Err() != nil {
			s.held = nil
		}
		return false
	}
	in := s.SeriesSet.At()
	out, bound, kept := s.rw.rewrite(in.Labels)
	if kept == 0 && labels.Compare(out, s.cur.Labels) < 0 {
		if len(s.warnings) == 0 {
			s.warnings = Warnings{{Text: "left out series without labels but replica labels: " + in.Labels.String()}}
		}
		return false
	}
	s.bound = bound
	if len(s.held) == 0 && labels.Compare(out, bound) <= 0 {
		s.cur = Series{Labels: out, Chunks: in.Chunks}
		return true
	}
	s.seq++
	heap.Push(&s.held, heldEntry{Series: Series{Labels: out, Chunks: slices.Clone(in.Chunks)}, seq: s.seq})
	return false
}

func (s *reorderSet) At() Series { return s.cur }

func (s *reorderSet) Warnings() Warnings {
	return append(slices.Clone(s.warnings), s.SeriesSet.Warnings()...)
}

// heldSeries is a heap by label set; equal ones keep the order of arrival.
type heldSeries []heldEntry

func (h heldSeries) Len() int { return len(h) }
func (h heldSeries) Less(i, j int) bool {
	if c := labels.Compare(h[i].Labels, h[j].Labels); c != 0 {
		return c < 0
	}
	return h[i].seq < h[j].seq
}
func (h heldSeries) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *heldSeries) Push(x any)   { *h = append(*h, x.(heldEntry)) }
func (h *heldSeries) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = heldEntry{}
	*h = old[:len(old)-1]
	return e
}
