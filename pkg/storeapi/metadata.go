package storeapi

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

// Metadata is the description of a metric by its target.
type Metadata struct {
	Type, Help, Unit string
}

// MetadataStore is a source of metric metadata.
type MetadataStore interface {
	// Metadata returns the descriptions of the named metric, or of all when
	// metric is empty. A metric has several entries when targets disagree.
	// limit bounds the number of metrics; negative means no limit.
	Metadata(ctx context.Context, metric string, limit int) (map[string][]Metadata, Warnings, error)
}

// FirstMetadata keeps the first metrics in the order of their names, and orders the
// entries of each. A negative limit keeps all.
func FirstMetadata(all map[string][]Metadata, limit int) map[string][]Metadata {
	names := slices.Sorted(maps.Keys(all))
	if limit >= 0 && len(names) > limit {
		for _, n := range names[limit:] {
			delete(all, n)
		}
	}
	for _, metas := range all {
		slices.SortFunc(metas, func(a, b Metadata) int {
			return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Help, b.Help), cmp.Compare(a.Unit, b.Unit))
		})
	}
	return all
}
