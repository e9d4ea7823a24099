package store

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// orderedSet brings the series of a block into the order of the answer. How, it
// decides when the first series is there, for only then it is known which labels
// the series of the block have.
type orderedSet struct {
	storeapi.SeriesSet // of the block
	block              *bucketblock.Set
	order              storeapi.Reorder
	begun              bool
}

func (s *orderedSet) Next() bool {
	if !s.begun {
		s.begun = true
		first := &peekedSet{SeriesSet: s.SeriesSet, ok: s.SeriesSet.Next(), peeked: true}
		if s.block.Final() {
			s.SeriesSet = &finalSet{SeriesSet: first, block: s.block}
		} else {
			s.SeriesSet = s.order.Apply(first)
		}
	}
	return s.SeriesSet.Next()
}

// peekedSet is a set on which Next has already been called once.
type peekedSet struct {
	storeapi.SeriesSet
	ok, peeked bool
}

func (s *peekedSet) Next() bool {
	if s.peeked {
		s.peeked = false
		return s.ok
	}
	return s.ok && s.SeriesSet.Next()
}

// finalSet orders series to which external labels were added, in a block whose
// series have no label of these names. Of two series S and F, in this order in
// the block, F can only become the smaller one if it has all labels of S and
// more: then what F has more may sort before the external labels of S. All such
// F follow S at once. So a series is returned when the one read after the last
// does not continue it, and hardly ever are more than two held.
type finalSet struct {
	storeapi.SeriesSet
	block *bucketblock.Set

	held   []heldSeries // in the order of the answer
	cur    storeapi.Series
	next   heldSeries // read, and not held
	common int        // of next with the series read before it
	ahead  bool       // next is there
	ended  bool
}

type heldSeries struct {
	storeapi.Series
	size int // number of its labels in the block
}

func (s *finalSet) Next() bool {
	for {
		if !s.ahead && !s.ended {
			s.read()
		}
		if len(s.held) == 0 && s.ended {
			return false
		}
		if len(s.held) > 0 && (s.ended || s.common < s.held[0].size) {
			s.cur = s.held[0].Series
			s.held = slices.Delete(s.held, 0, 1)
			return true
		}
		s.hold()
	}
}

func (s *finalSet) read() {
	if !s.SeriesSet.Next() {
		s.ended = true
		return
	}
	s.ahead = true
	s.next.Series = s.SeriesSet.At()
	s.common, s.next.size = s.block.Shared()
}

func (s *finalSet) hold() {
	i := len(s.held)
	for i > 0 && labels.Compare(s.next.Labels, s.held[i-1].Labels) < 0 {
		i--
	}
	s.held = slices.Insert(s.held, i, s.next)
	s.ahead = false
}

func (s *finalSet) At() storeapi.Series { return s.cur }
