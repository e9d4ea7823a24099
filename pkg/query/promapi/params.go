package promapi

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
)

// Params are what a request may say beyond the Prometheus API. They travel to
// the storage in the context, because Prometheus's API package has no place
// for them.
type Params struct {
	// Dedup merges the replicas that ReplicaLabels tell apart.
	Dedup         bool
	ReplicaLabels []string
	// PartialResponse returns what there is, with warnings, when a store is
	// missing. Without it the request fails.
	PartialResponse bool
	// MaxSourceResolution is the coarsest resolution of downsampled data that
	// may be used, in milliseconds; 0 means raw data only.
	MaxSourceResolution int64
	// StoreMatchers select stores by __address__; any of the sets must match.
	StoreMatchers [][]*labels.Matcher
	// Shard asks for a part of the series only; nil for all.
	Shard *Shard
	// Enforced, when not nil, stands in the place of all other matchers on its
	// label.
	Enforced *labels.Matcher
}

// Shard is one of Total parts of the series, chosen by a hash over Labels (By)
// or over all other labels.
type Shard struct {
	Index  int64    `json:"shard_index"`
	Total  int64    `json:"total_shards"`
	By     bool     `json:"by"`
	Labels []string `json:"labels"`
}

type paramsKey struct{}

// NewContext returns ctx with the parameters.
func NewContext(ctx context.Context, p Params) context.Context {
	return context.WithValue(ctx, paramsKey{}, p)
}

// ParamsFromContext returns the parameters of ctx, if it has any.
func ParamsFromContext(ctx context.Context) (Params, bool) {
	p, ok := ctx.Value(paramsKey{}).(Params)
	return p, ok
}
