package fanout

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// TSDBStatus merges the statistics of all stores that have a TSDB, tenant by
// tenant. It implements storeapi.TSDBStatusStore.
func (s *Store) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	cr := *r
	cr.StoreMatchers, cr.Budget = nil, budget(r.Budget, "TSDB statistics")
	parts, ws, err := gather(ctx, s, inquiry[storeapi.TSDBStatusStore, map[string]storeapi.TSDBStats]{
		doing: "fetch TSDB statistics from store", partial: r.Partial, storeMatchers: r.StoreMatchers,
		// A store with several label sets chooses among its TSDBs itself.
		concerns: func(info storeapi.Info) bool {
			return len(info.LabelSets) == 0 ||
				slices.ContainsFunc(info.LabelSets, func(ls labels.Labels) bool { return r.ChoosesTSDB(ls) })
		},
		ask: func(ctx context.Context, source storeapi.TSDBStatusStore) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
			return source.TSDBStatus(ctx, &cr)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	all := map[string][]storeapi.TSDBStats{}
	for _, p := range parts {
		for tenant, stats := range p {
			all[tenant] = append(all[tenant], stats)
		}
	}
	out := make(map[string]storeapi.TSDBStats, len(all))
	for tenant, stats := range all {
		out[tenant] = storeapi.MergeTSDBStats(stats, r.Limit)
	}
	return out, ws, nil
}
