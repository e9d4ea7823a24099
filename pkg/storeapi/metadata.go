package storeapi

import "context"

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
