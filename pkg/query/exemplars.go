package query

import (
	"context"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// ExemplarQuerier implements storage.ExemplarQueryable. Without a store that
// knows exemplars there are none.
func (q *Queryable) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	store, ok := q.store.(storeapi.ExemplarStore)
	if !ok {
		return noExemplars{}, nil
	}
	return &exemplarQuerier{ctx: ctx, store: store, params: q.cfg.options(ctx), abort: q.cfg.ExemplarsAbort}, nil
}

// exemplarQuerier serves one request, which its context belongs to.
type exemplarQuerier struct {
	ctx    context.Context
	store  storeapi.ExemplarStore
	params queryopts.Options
	abort  bool
}

// Select implements storage.ExemplarQuerier: the exemplars of all series that any
// of the selectors matches, those of replicas together.
func (q *exemplarQuerier) Select(start, end int64, selectors ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	r := &storeapi.ExemplarRequest{
		MinTime: start, MaxTime: end, Partial: storeapi.PartialWarn, StoreMatchers: q.params.StoreMatchers,
	}
	if q.abort {
		r.Partial = storeapi.PartialAbort
	}
	for _, ms := range selectors {
		r.Selectors = append(r.Selectors, enforce(q.params.Enforced, ms))
	}
	found, ws, err := q.store.Exemplars(q.ctx, r)
	if err != nil {
		return nil, err
	}
	annotate(ws, promapi.ReportFromContext(q.ctx))
	if q.params.Dedup {
		found = storeapi.MergeExemplars(found, q.params.ReplicaLabels)
	}
	out := make([]exemplar.QueryResult, 0, len(found))
	for _, s := range found {
		out = append(out, exemplar.QueryResult{SeriesLabels: s.Labels, Exemplars: s.Exemplars})
	}
	return out, nil
}

// noExemplars answers every request for exemplars with none.
type noExemplars struct{}

func (noExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return []exemplar.QueryResult{}, nil
}
