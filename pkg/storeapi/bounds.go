package storeapi

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// Bounds is how much one answer to a Select may have.
type Bounds limit.Answer

// Store returns s with each answer to a Select bounded.
func (b Bounds) Store(s Store) Store {
	if b == (Bounds{}) {
		return s
	}
	return boundedStore{Store: s, bounds: b}
}

type boundedStore struct {
	Store
	bounds Bounds
}

func (s boundedStore) Select(ctx context.Context, r *Request) SeriesSet {
	return Cut{Bounds: s.bounds}.Apply(s.Store.Select(ctx, r))
}
