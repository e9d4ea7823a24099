package fanout

import (
	"context"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// querier is a store that may be another querier.
type querier interface {
	// Querier is the instance of the querier that a request would reach; it is empty
	// for other stores, and while the store does not answer.
	Querier() string
}

// withAsked returns the context for requests to the given stores. It tells the queriers
// among them which others are asked, so that they do not ask these again: in a full mesh
// a request would otherwise travel along every path. Each querier that can be reached is
// still asked, by the querier on the way that is the first to know it. One that does not
// answer here is not named: it may be reached another way.
func withAsked[S any](ctx context.Context, stores []S) context.Context {
	asking := slices.Clip(storeapi.Asking(ctx))
	before := len(asking)
	for _, st := range stores {
		if q, ok := any(st).(querier); ok {
			if id := q.Querier(); id != "" && !slices.Contains(asking, id) {
				asking = append(asking, id)
			}
		}
	}
	if len(asking) == before {
		return ctx
	}
	return storeapi.WithAsking(ctx, asking)
}
