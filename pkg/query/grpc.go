package query

import (
	"context"

	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

func (q *Query) registerGRPC(r grpc.ServiceRegistrar) {
	storerpc.RegisterStore(r, q.served(), storerpc.ServerConfig{})
	storerpc.RegisterMetadata(r, q)
	storerpc.RegisterExemplars(r, q.fanout)
	storerpc.RegisterInfo(r, storerpc.InfoConfig{
		Info:     q.fanout.Info,
		Services: storerpc.Services{Store: true, Metadata: true, Exemplars: true},
		Ready:    q.Ready,
	})
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
