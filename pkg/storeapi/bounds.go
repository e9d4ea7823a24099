package storeapi

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// Bounds is how much one answer to a Select may have.
type Bounds limit.Answer

// Set returns set, which fails with limit.ErrExceeded where it has more than allowed.
func (b Bounds) Set(set SeriesSet) SeriesSet {
	if b == (Bounds{}) {
		return set
	}
	return &boundedSet{SeriesSet: set, counter: limit.Counter{Max: limit.Answer(b)}}
}

// Store returns s with each answer to a Select bounded.
func (b Bounds) Store(s Store) Store {
	if b == (Bounds{}) {
		return s
	}
	return boundedStore{Store: s, most: b}
}

type boundedStore struct {
	Store
	most Bounds
}

func (s boundedStore) Select(ctx context.Context, r *Request) SeriesSet {
	return s.most.Set(s.Store.Select(ctx, r))
}

type boundedSet struct {
	SeriesSet
	counter limit.Counter
	err     error
}

func (s *boundedSet) Next() bool {
	if s.err != nil || !s.SeriesSet.Next() {
		return false
	}
	at := s.At()
	s.err = s.counter.Add(at.Labels, len(at.Chunks))
	return s.err == nil
}

func (s *boundedSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}
