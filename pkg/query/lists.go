package query

import (
	"context"
	"time"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// lists are the sources of the API's lists.
func (q *Query) lists() promapi.Lists {
	return promapi.Lists{
		Rules: q.fanout, Targets: q.fanout, TSDBStatus: q.fanout,
		RulesPartial: q.cfg.RulePartial, TargetsPartial: q.cfg.TargetPartial, TSDBStatusPartial: q.cfg.StatusPartial,
	}
}

// listService serves the lists of the fan-out over gRPC. Clients need not bound
// the time of their calls, so the querier does.
type listService struct {
	stores interface {
		storeapi.RuleStore
		storeapi.TargetStore
		storeapi.TSDBStatusStore
	}
	timeout time.Duration
}

func (s listService) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.stores.Rules(ctx, r)
}

func (s listService) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.stores.Targets(ctx, r)
}

func (s listService) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.stores.TSDBStatus(ctx, r)
}
