package endpoint

import (
	"context"

	"google.golang.org/grpc/connectivity"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// broken is the client of an endpoint that cannot even be dialled, for example
// because its certificate cannot be read. It stays missing until its
// configuration changes.
type broken struct{ err error }

func (b broken) Refresh(context.Context) error { return b.err }
func (b broken) Info() storeapi.Info           { return storeapi.Info{} }
func (b broken) State() connectivity.State     { return connectivity.Shutdown }
func (b broken) Close() error                  { return nil }

func (b broken) Select(context.Context, *storeapi.Request) storeapi.SeriesSet {
	return storeapi.ErrSet(b.err)
}

func (b broken) LabelNames(context.Context, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, b.err
}

func (b broken) LabelValues(context.Context, string, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, b.err
}

func (b broken) Metadata(context.Context, string, int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	return nil, nil, b.err
}
