package endpoint

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/promql"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// announcing is a client that knows which services its server announced when it
// answered last; none before.
type announcing interface{ Services() storerpc.Services }

// callable returns the client of a service and the context for the call, or false
// when the store does not announce the service. A store that never answered
// counts as missing.
func callable[S any](ctx context.Context, e *Endpoint, announced func(storerpc.Services) bool) (next context.Context, client S, ok bool, err error) {
	next, skip, err := e.usable(ctx)
	if skip {
		return ctx, client, false, nil
	}
	if a, is := e.client.(announcing); is && e.wasContacted() && !announced(a.Services()) {
		return ctx, client, false, nil
	}
	if err != nil {
		return ctx, client, false, err
	}
	client, ok = e.client.(S)
	return next, client, ok, nil
}

// Rules implements storeapi.RuleStore; stores that do not announce rules have
// none.
func (e *Endpoint) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	ctx, c, ok, err := callable[storeapi.RuleStore](ctx, e, func(s storerpc.Services) bool { return s.Rules })
	if err != nil || !ok {
		return nil, nil, err
	}
	return once(ctx, e, func(ctx context.Context) ([]storeapi.RuleGroup, storeapi.Warnings, error) { return c.Rules(ctx, r) })
}

// Targets implements storeapi.TargetStore; stores that do not announce targets
// have none.
func (e *Endpoint) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	ctx, c, ok, err := callable[storeapi.TargetStore](ctx, e, func(s storerpc.Services) bool { return s.Targets })
	if err != nil || !ok {
		return storeapi.Targets{}, nil, err
	}
	return once(ctx, e, func(ctx context.Context) (storeapi.Targets, storeapi.Warnings, error) { return c.Targets(ctx, r) })
}

// TSDBStatus implements storeapi.TSDBStatusStore; stores that do not announce the
// status have none.
func (e *Endpoint) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	ctx, c, ok, err := callable[storeapi.TSDBStatusStore](ctx, e, func(s storerpc.Services) bool { return s.Status })
	if err != nil || !ok {
		return nil, nil, err
	}
	return once(ctx, e, func(ctx context.Context) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
		return c.TSDBStatus(ctx, r)
	})
}

// queryClient is a store that may evaluate queries.
type queryClient interface {
	Query(ctx context.Context, r *storerpc.QueryRequest, each func(promql.Series) error) (storerpc.QuerySummary, error)
}

// Evaluates returns why the endpoint cannot evaluate queries in place of this querier; it
// is empty for a querier of this program that is up. Others may evaluate differently.
func (e *Endpoint) Evaluates() (cannot string) {
	a, ok := e.client.(announcing)
	switch info := e.Info(); {
	case e.Reachable() != nil:
		return "it does not answer"
	case info.Component != "query" || !ok || !a.Services().Query:
		return "it is no querier"
	case info.Instance == "":
		return "it is a querier of another program"
	}
	return ""
}

// Query evaluates a query at the endpoint; see storerpc.Client. A querier that the request
// has passed already has nothing to add. The call ends when the endpoint is silent and
// does not answer the Info call either.
func (e *Endpoint) Query(ctx context.Context, r *storerpc.QueryRequest, each func(promql.Series) error) (storerpc.QuerySummary, error) {
	ctx, skip, err := e.usable(ctx)
	if err != nil || skip {
		return storerpc.QuerySummary{}, err
	}
	c, ok := e.client.(queryClient)
	if !ok {
		return storerpc.QuerySummary{}, fmt.Errorf("query %s: %w: it offers no queries", e.name, storeapi.ErrUnavailable)
	}
	one := e.calls.begin(ctx)
	defer one.end()
	one.wait()
	out, err := c.Query(one.ctx, r, func(s promql.Series) error {
		one.resume()
		defer one.wait()
		return each(s)
	})
	return out, one.failure(err)
}
