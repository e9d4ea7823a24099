package multitsdb

import (
	"context"
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// tenantStore is what one tenant has: series and exemplars.
type tenantStore struct {
	*tsdbstore.Store
	t *tenantDB
	d *DB
}

// Exemplars returns what the tenant's ring of exemplars still has. A matcher on
// an external label is about that label, whatever series carry themselves.
func (s tenantStore) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	t := s.t
	external := t.cfg.External(t.id)
	selectors := storeapi.PruneSelectors(external, r.Selectors)
	if len(selectors) == 0 || t.cfg.MaxExemplars <= 0 {
		return nil, nil, nil
	}
	if !t.acquire() {
		if s.d.isAsleep(t.id) {
			return nil, nil, nil // they were in memory
		}
		return nil, nil, fmt.Errorf("read exemplars of tenant %s: %w", t.id, errClosed)
	}
	defer t.release()
	q, err := t.db.ExemplarQuerier(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read exemplars of tenant %s: %w", t.id, err)
	}
	found, err := q.Select(r.MinTime, r.MaxTime, selectors...)
	if err != nil {
		return nil, nil, fmt.Errorf("read exemplars of tenant %s: %w", t.id, err)
	}
	return storeapi.ExternalExemplars(external, found), nil, nil
}

var _ storeapi.ExemplarStore = tenantStore{}
