package fanout

import (
	"context"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Rules merges the groups of all stores that evaluate rules. Replica labels
// stay. It implements storeapi.RuleStore.
func (s *Store) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	cr := *r
	cr.StoreMatchers, cr.Budget = nil, budget(r.Budget, "rules")
	parts, ws, err := gather(ctx, s, inquiry[storeapi.RuleStore, []storeapi.RuleGroup]{
		doing: "fetch rules from store", partial: r.Partial, storeMatchers: r.StoreMatchers,
		ask: func(ctx context.Context, source storeapi.RuleStore) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
			return source.Rules(ctx, &cr)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	// Servers of the protocol need not look at anything but the type.
	return storeapi.MergeRules(storeapi.FilterRules(slices.Concat(parts...), r), nil), ws, nil
}
