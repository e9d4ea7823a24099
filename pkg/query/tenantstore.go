package query

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// tenantStore serves the fan-out over gRPC to callers that may see the data of their
// tenants only.
type tenantStore struct {
	*fanout.Store
	q *Query
}

// tenants returns the context of a call with its tenants, and the matcher that they
// are restricted to.
func (s tenantStore) tenants(ctx context.Context) (context.Context, *labels.Matcher, error) {
	ctx, must, err := s.q.callTenant(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", storeapi.ErrInvalid, err)
	}
	return ctx, must, nil
}

// restricted is the request with the matcher.
func restricted(r *storeapi.Request, must *labels.Matcher) *storeapi.Request {
	cr := *r
	cr.Matchers = enforce(must, r.Matchers)
	return &cr
}

// Select implements storeapi.Store.
func (s tenantStore) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return storeapi.ErrSet(err)
	}
	return s.Store.Select(ctx, restricted(r, must))
}

// LabelNames implements storeapi.Store.
func (s tenantStore) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return nil, nil, err
	}
	return s.Store.LabelNames(ctx, restricted(r, must))
}

// LabelValues implements storeapi.Store.
func (s tenantStore) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return nil, nil, err
	}
	return s.Store.LabelValues(ctx, name, restricted(r, must))
}

// Exemplars implements storeapi.ExemplarStore.
func (s tenantStore) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return nil, nil, err
	}
	cr := *r
	cr.Selectors = nil
	for _, ms := range r.Selectors {
		cr.Selectors = append(cr.Selectors, enforce(must, ms))
	}
	return s.Store.Exemplars(ctx, &cr)
}

// Metadata implements storeapi.MetadataStore.
func (s tenantStore) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return nil, nil, err
	}
	return s.q.visibleMetadata(queryopts.NewContext(ctx, queryopts.Options{Enforced: must}), metric, limit)
}

// Rules implements storeapi.RuleStore.
func (s tenantStore) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return nil, nil, err
	}
	cr := *r
	cr.Matchers = append(slices.Clip(r.Matchers), []*labels.Matcher{must})
	return s.Store.Rules(ctx, &cr)
}

// Targets implements storeapi.TargetStore.
func (s tenantStore) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return storeapi.Targets{}, nil, err
	}
	found, ws, err := s.Store.Targets(ctx, r)
	found.Active = slices.DeleteFunc(found.Active, func(t storeapi.ActiveTarget) bool { return !must.Matches(t.Labels.Get(must.Name)) })
	found.Dropped = slices.DeleteFunc(found.Dropped, func(ls labels.Labels) bool { return !must.Matches(ls.Get(must.Name)) })
	return found, ws, err
}

// TSDBStatus implements storeapi.TSDBStatusStore.
func (s tenantStore) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	ctx, must, err := s.tenants(ctx)
	if err != nil {
		return nil, nil, err
	}
	cr := *r
	cr.Matchers = enforce(must, r.Matchers)
	found, ws, err := s.Store.TSDBStatus(ctx, &cr)
	for id := range found {
		if id != "" && !tenant.Includes(ctx, id) {
			delete(found, id)
		}
	}
	return found, ws, err
}
