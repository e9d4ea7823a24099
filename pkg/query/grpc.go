package query

import (
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

func (q *Query) registerGRPC(r grpc.ServiceRegistrar) {
	all := q.offered()
	storerpc.RegisterStore(r, q.served(all), storerpc.ServerConfig{})
	storerpc.RegisterMetadata(r, all)
	storerpc.RegisterExemplars(r, all)
	lists := listService{stores: all, timeout: q.cfg.Timeout.Duration()}
	storerpc.RegisterRules(r, lists)
	storerpc.RegisterTargets(r, lists)
	storerpc.RegisterStatus(r, lists)
	q.RegisterEvaluation(r)
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

// offer is everything that other queriers may ask for.
type offer interface {
	storeapi.Store
	storeapi.ExemplarStore
	storeapi.MetadataStore
	storeapi.RuleStore
	storeapi.TargetStore
	storeapi.TSDBStatusStore
}

// offered is all stores, restricted to the tenants of the caller where they are
// enforced.
func (q *Query) offered() offer {
	if q.cfg.Tenancy.Enforce {
		return tenantStore{q.fanout, q}
	}
	return q.fanout
}

// served is the store that others may ask: all stores, within the limits.
func (q *Query) served(all storeapi.Store) storeapi.Store {
	return storeapi.Bounds{Series: q.cfg.LimitSeries, Samples: q.cfg.LimitSamples}.Store(all)
}
