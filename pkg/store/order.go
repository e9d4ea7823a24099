package store

import "github.com/hindsight-io/hindsight/pkg/storeapi"

// orderedSet adds and removes labels of the series of a block. It waits with
// that until the first series is there, for only then it is known which labels
// the series of the block have.
type orderedSet struct {
	storeapi.SeriesSet
	order storeapi.Reorder
	begun bool
}

func (s *orderedSet) Next() bool {
	if !s.begun {
		s.begun = true
		first := &peekedSet{SeriesSet: s.SeriesSet, ok: s.SeriesSet.Next(), peeked: true}
		s.SeriesSet = s.order.Apply(first)
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
