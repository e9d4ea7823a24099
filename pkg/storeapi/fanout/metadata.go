package fanout

import (
	"context"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Metadata asks all stores that know metadata, and merges the answers. A store
// that fails is named in a warning. It implements storeapi.MetadataStore.
func (s *Store) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if limit == 0 {
		return nil, nil, nil
	}
	parts, ws, err := gather(ctx, s, inquiry[storeapi.MetadataStore, map[string][]storeapi.Metadata]{
		doing: "fetch metadata from store",
		ask: func(ctx context.Context, source storeapi.MetadataStore) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
			return source.Metadata(ctx, metric, limit)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	out := map[string][]storeapi.Metadata{}
	for _, found := range parts {
		for name, metas := range found {
			for _, m := range metas {
				if !slices.Contains(out[name], m) {
					out[name] = append(out[name], m)
				}
			}
		}
	}
	return storeapi.FirstMetadata(out, limit), ws, nil
}
