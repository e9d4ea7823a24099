package storeapi

import "context"

// Metadata is what a target says about one of its metrics.
type Metadata struct {
	Type, Help, Unit string
}

// MetadataStore is a source of metric metadata.
type MetadataStore interface {
	// Metadata returns what is known about the named metric, or about all when
	// metric is empty. A metric has several entries when targets disagree.
	// limit bounds the number of metrics; negative means no limit.
	Metadata(ctx context.Context, metric string, limit int) (map[string][]Metadata, Warnings, error)
}
