package fanout

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Targets merges the targets of all stores that scrape any. Replica labels stay.
// It implements storeapi.TargetStore.
func (s *Store) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	cr := *r
	cr.StoreMatchers, cr.Budget = nil, budget(r.Budget, "targets")
	parts, ws, err := gather(ctx, s, inquiry[storeapi.TargetStore, storeapi.Targets]{
		doing: "fetch targets from store", partial: r.Partial, storeMatchers: r.StoreMatchers,
		ask: func(ctx context.Context, source storeapi.TargetStore) (storeapi.Targets, storeapi.Warnings, error) {
			return source.Targets(ctx, &cr)
		},
	})
	if err != nil {
		return storeapi.Targets{}, nil, err
	}
	var all storeapi.Targets
	for _, p := range parts {
		all.Active, all.Dropped = append(all.Active, p.Active...), append(all.Dropped, p.Dropped...)
	}
	all.Choose(r.State)
	return storeapi.MergeTargets(all, nil), ws, nil
}
