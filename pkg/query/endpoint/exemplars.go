package endpoint

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// exemplarClient is a store that may offer exemplars.
type exemplarClient interface {
	storeapi.ExemplarStore
	// OffersExemplars reports the last announcement of the store, false
	// before.
	OffersExemplars() bool
}

// Exemplars implements storeapi.ExemplarStore. A store that announces no exemplars
// is skipped; one that never answered counts as missing.
func (e *Endpoint) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	ctx, skip, err := e.usable(ctx)
	if skip {
		return nil, nil, nil
	}
	if e.wasContacted() && !e.client.OffersExemplars() {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return once(ctx, e, func(ctx context.Context) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
		return e.client.Exemplars(ctx, r)
	})
}

func (e *Endpoint) wasContacted() bool {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.contacted
}

func (r remote) OffersExemplars() bool { return r.Services().Exemplars }
func (r remote) OffersMetadata() bool  { return r.Services().Metadata }

func (b broken) OffersExemplars() bool { return false }

func (b broken) Exemplars(context.Context, *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	return nil, nil, b.err
}
