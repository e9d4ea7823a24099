package query

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

func (q *Query) registerGRPC(r grpc.ServiceRegistrar) {
	storerpc.RegisterStore(r, q.served(), storerpc.ServerConfig{})
	storerpc.RegisterMetadata(r, q.fanout)
	storerpc.RegisterInfo(r, storerpc.InfoConfig{
		Info:     q.info,
		Services: storerpc.Services{Store: true, Metadata: true},
		Ready:    q.Ready,
	})
}

// info announces what all stores have together. The querier's own labels are
// added to each of their label sets.
func (q *Query) info() storeapi.Info {
	info := q.fanout.Info()
	info.Component = "query"
	own := q.cfg.SelectorLabels.Labels()
	if own.IsEmpty() {
		return info
	}
	if len(info.LabelSets) == 0 {
		info.LabelSets = []labels.Labels{own}
		return info
	}
	sets := make([]labels.Labels, 0, len(info.LabelSets))
	for _, l := range info.LabelSets {
		b := labels.NewBuilder(l)
		own.Range(func(o labels.Label) { b.Set(o.Name, o.Value) })
		sets = append(sets, b.Labels())
	}
	info.LabelSets = sets
	return info
}

// served is the store that others may ask: all stores, within the limits.
func (q *Query) served() storeapi.Store {
	return limited{Store: q.fanout, series: q.cfg.LimitSeries, chunks: q.cfg.LimitSamples / samplesPerChunk, limitChunks: q.cfg.LimitSamples > 0}
}

// samplesPerChunk is what a chunk counts for in limits on samples.
const samplesPerChunk = 120

// limited fails requests that return too much.
type limited struct {
	storeapi.Store
	series, chunks uint64
	limitChunks    bool
}

func (l limited) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	set := l.Store.Select(ctx, r)
	if l.series == 0 && !l.limitChunks {
		return set
	}
	return &limitedSet{SeriesSet: set, limit: l}
}
