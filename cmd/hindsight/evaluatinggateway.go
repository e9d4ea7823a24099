package main

import (
	"context"

	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/store"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// evaluatingGateway is a store gateway that evaluates the parts of queries of which it
// alone has the data. The querier in it reads the blocks without gRPC, serves queries on
// the gRPC port of the gateway, and has neither endpoints nor an HTTP API.
type evaluatingGateway struct {
	*store.Gateway
	query *query.Query
}

func newEvaluatingGateway(p *process, g *store.Gateway, c query.Config) (*evaluatingGateway, error) {
	q, err := query.New(c, query.Deps{
		Logger: p.logger, Registerer: p.registererOf("query"), Gatherer: p.registry, LocalStores: []storeapi.Store{g.Store()},
	})
	if err != nil {
		return nil, err
	}
	return &evaluatingGateway{Gateway: g, query: q}, nil
}

// RegisterGRPC implements server.Component.
func (g *evaluatingGateway) RegisterGRPC(r grpc.ServiceRegistrar) {
	g.Gateway.RegisterGRPC(r)
	g.query.RegisterEvaluation(r)
}

// Reload implements server.Reloader: it reads the limits of tenants again.
func (g *evaluatingGateway) Reload(ctx context.Context) error { return g.query.Reload(ctx) }

// Run runs the gateway, and the querier within its time.
func (g *evaluatingGateway) Run(ctx context.Context) error {
	return runParts(ctx, []part{{"store", g.Gateway.Run}, {"query", g.query.Run}})
}
