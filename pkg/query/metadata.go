package query

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Metadata merges the metadata of all stores that have any.
func (q *Query) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	return q.fanout.Metadata(ctx, metric, limit)
}
