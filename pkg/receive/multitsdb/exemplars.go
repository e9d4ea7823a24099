package multitsdb

import (
	"context"
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// tenantStore is the store of an open tenant: series and exemplars.
type tenantStore struct {
	*tsdbstore.Store
	id string
	d  *DB
}

// Exemplars returns exemplars of the tenant's ring, which is in memory: an idle
// tenant has none. A matcher on an external label is about that label, whatever
// labels the series have themselves.
func (s tenantStore) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	external := s.d.cfg.External(s.id)
	selectors := storeapi.PruneSelectors(external, r.Selectors)
	if len(selectors) == 0 || s.d.cfg.MaxExemplars <= 0 {
		return nil, nil, nil
	}
	t := s.d.opened(s.id)
	if t == nil || !t.acquire() {
		if s.d.ready.Load() {
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("read exemplars of tenant %s: %w", s.id, errClosed)
	}
	defer t.release()
	q, err := t.db.ExemplarQuerier(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read exemplars of tenant %s: %w", s.id, err)
	}
	found, err := q.Select(r.MinTime, r.MaxTime, selectors...)
	if err != nil {
		return nil, nil, fmt.Errorf("read exemplars of tenant %s: %w", s.id, err)
	}
	return storeapi.ExternalExemplars(external, found), nil, nil
}

var _ storeapi.ExemplarStore = tenantStore{}
