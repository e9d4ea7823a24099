package sidecar

import (
	"context"
	"time"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Exemplars returns the exemplars that the server has in memory. A matcher on an
// external label applies to that label, also where stored series have the same
// name.
func (s *promStore) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	id, err := s.source.current()
	if err != nil {
		return nil, nil, err
	}
	q := prom.ExemplarQuery{
		Selectors: storeapi.PruneSelectors(id.external, r.Selectors),
		MinTime:   max(r.MinTime, s.minTime(time.Now())), MaxTime: r.MaxTime,
	}
	if len(q.Selectors) == 0 || q.MinTime > q.MaxTime {
		return nil, nil, nil
	}
	found, warnings, err := s.source.client.Exemplars(ctx, q)
	if err != nil {
		return nil, nil, failed(s.source, err)
	}
	return storeapi.ExternalExemplars(id.external, found), s.warnings(warnings), nil
}

var _ storeapi.ExemplarStore = (*promStore)(nil)
