package query

import (
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

func (q *Query) registerGRPC(r grpc.ServiceRegistrar) {
	storerpc.RegisterStore(r, q.served(), storerpc.ServerConfig{})
	storerpc.RegisterMetadata(r, q)
	storerpc.RegisterExemplars(r, q.fanout)
	lists := listService{stores: q.fanout, timeout: q.cfg.Timeout.Duration()}
	storerpc.RegisterRules(r, lists)
	storerpc.RegisterTargets(r, lists)
	storerpc.RegisterStatus(r, lists)
	storerpc.RegisterQuery(r, &queryService{q: q, queryable: q.queryable, defaults: q.defaults})
	storerpc.RegisterInfo(r, storerpc.InfoConfig{
		Info:     q.fanout.Info,
		InfoTo:   q.fanout.InfoTo,
		Instance: q.set.Instance(),
		Services: storerpc.Services{
			Store: true, Metadata: true, Exemplars: true, Rules: true, Targets: true, Status: true, Query: true,
		},
		Ready: q.Ready,
	})
}

// served is the store that others may ask: all stores, within the limits.
func (q *Query) served() storeapi.Store {
	return storeapi.Bounds{Series: q.cfg.LimitSeries, Samples: q.cfg.LimitSamples}.Store(q.fanout)
}
