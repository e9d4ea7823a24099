package endpoint

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// announcing is a client that knows which services its server announced when it
// answered last; none before.
type announcing interface{ Services() storerpc.Services }

// callable returns the client of a service, or false when the store does not
// announce it and so has nothing to miss. Nobody knows that of a store that never
// answered.
func callable[S any](e *Endpoint, announced func(storerpc.Services) bool) (client S, ok bool, err error) {
	err = e.usable()
	if a, is := e.client.(announcing); is && e.wasContacted() && !announced(a.Services()) {
		return client, false, nil
	}
	if err != nil {
		return client, false, err
	}
	client, ok = e.client.(S)
	return client, ok, nil
}

// Rules implements storeapi.RuleStore; stores that do not announce rules have
// none.
func (e *Endpoint) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	c, ok, err := callable[storeapi.RuleStore](e, func(s storerpc.Services) bool { return s.Rules })
	if err != nil || !ok {
		return nil, nil, err
	}
	return c.Rules(ctx, r)
}

// Targets implements storeapi.TargetStore; stores that do not announce targets
// have none.
func (e *Endpoint) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	c, ok, err := callable[storeapi.TargetStore](e, func(s storerpc.Services) bool { return s.Targets })
	if err != nil || !ok {
		return storeapi.Targets{}, nil, err
	}
	return c.Targets(ctx, r)
}

// TSDBStatus implements storeapi.TSDBStatusStore; stores that do not announce the
// status have none.
func (e *Endpoint) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	c, ok, err := callable[storeapi.TSDBStatusStore](e, func(s storerpc.Services) bool { return s.Status })
	if err != nil || !ok {
		return nil, nil, err
	}
	return c.TSDBStatus(ctx, r)
}
