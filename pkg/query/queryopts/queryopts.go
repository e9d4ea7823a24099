// Package queryopts holds the options of one request to a querier beyond the
// Prometheus API, their defaults and their validation. The HTTP API and the gRPC
// service parse their requests into Options.
package queryopts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Options say how one request reads. They travel to the storage in the context,
// because the engine and the API package of Prometheus have no place for them.
type Options struct {
	// Dedup merges the replicas that differ only in ReplicaLabels.
	Dedup bool
	// ReplicaLabels are sorted and unique; set them with SetReplicaLabels.
	ReplicaLabels []string
	// PartialResponse returns the available series, with warnings, when a store
	// is missing. Without it the request fails.
	PartialResponse bool
	// MaxSourceResolution is the coarsest resolution of downsampled data that
	// may be used, in milliseconds; 0 means raw data only.
	MaxSourceResolution int64
	// StoreMatchers select stores by __address__; any of the sets must match.
	StoreMatchers [][]*labels.Matcher
	// Shard asks for a part of the series only; nil for all.
	Shard *storeapi.Shard
	// Enforced, when not nil, replaces all other matchers on its label.
	Enforced *labels.Matcher
}

// SetReplicaLabels sets the replica labels; empty names are ignored.
func (o *Options) SetReplicaLabels(names []string) error {
	names = Names(names)
	for _, name := range names {
		if !model.UTF8Validation.IsValidLabelName(name) {
			return fmt.Errorf("%q is not a label name", name)
		}
	}
	o.ReplicaLabels = names
	return nil
}

// SetShard sets the shard, which may be nil.
func (o *Options) SetShard(s *storeapi.Shard) error {
	if err := s.Validate(); err != nil {
		return err
	}
	o.Shard = s
	return nil
}

// SetMaxSourceResolution sets the coarsest resolution of downsampled data.
func (o *Options) SetMaxSourceResolution(d time.Duration) error {
	if d < 0 {
		return errors.New("a negative resolution is not accepted; try a positive duration, or auto")
	}
	o.MaxSourceResolution = d.Milliseconds()
	return nil
}

// Names returns the names sorted, without empty and repeated ones; nil when none
// is left.
func Names(names []string) []string {
	var out []string
	for _, n := range names {
		if n != "" {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Defaults hold for the options that a request does not have.
type Defaults struct {
	Options
	// AutoDownsampling makes the automatic resolution the default over HTTP.
	AutoDownsampling bool
	// InstantResolution is the automatic resolution of instant queries.
	InstantResolution time.Duration
	// DetectedReplicaLabels returns the replica labels that the stores show, which are
	// added to those of Options; nil adds none.
	DetectedReplicaLabels func() []string
}

// Request returns the options of a request that sets none. Its replica labels do not
// change while the request runs.
func (d *Defaults) Request() Options {
	o := d.Options
	if d.DetectedReplicaLabels != nil {
		o.ReplicaLabels = Names(slices.Concat(o.ReplicaLabels, d.DetectedReplicaLabels()))
	}
	return o
}

// AutoResolution is the automatic coarsest resolution of a query: a fifth of the
// step of a range query; a step of 0 means an instant query.
func (d *Defaults) AutoResolution(step time.Duration) time.Duration {
	if step == 0 {
		return d.InstantResolution
	}
	return step / 5
}

type contextKey struct{}

// NewContext returns ctx with the options.
func NewContext(ctx context.Context, o Options) context.Context {
	return context.WithValue(ctx, contextKey{}, o)
}

// FromContext returns the options of ctx, if it has any.
func FromContext(ctx context.Context) (Options, bool) {
	o, ok := ctx.Value(contextKey{}).(Options)
	return o, ok
}
