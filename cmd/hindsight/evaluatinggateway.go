package main

import (
	"context"
	"net/http"

	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/store"
)

// evaluatingGateway is a store gateway that evaluates the parts of queries of which it
// alone has the data. The querier in it reads the blocks without gRPC, serves queries on
// the gRPC port of the gateway, and has neither endpoints nor an HTTP API.
type evaluatingGateway struct {
	gateway *store.Gateway
	query   *query.Query
}

func newEvaluatingGateway(p *process, g *store.Gateway, c query.Config) (*evaluatingGateway, error) {
	q, err := query.New(c, query.Deps{
		Logger: p.logger, Registerer: p.registererOf("query"), Gatherer: p.registry, Only: g.Store(),
	})
	if err != nil {
		return nil, err
	}
	return &evaluatingGateway{gateway: g, query: q}, nil
}

// RegisterHTTP implements server.Component.
func (g *evaluatingGateway) RegisterHTTP(mux *http.ServeMux) { g.gateway.RegisterHTTP(mux) }

// Ready implements server.Component. The querier waits for no endpoints.
func (g *evaluatingGateway) Ready() error { return g.gateway.Ready() }

// RegisterGRPC implements server.Component.
func (g *evaluatingGateway) RegisterGRPC(r grpc.ServiceRegistrar) {
	g.gateway.RegisterGRPC(r)
	g.query.RegisterEvaluation(r)
}

// Reload implements server.Reloader: it reads the limits of tenants again.
func (g *evaluatingGateway) Reload(ctx context.Context) error { return g.query.Reload(ctx) }

// Run runs the gateway, and the querier within its time.
func (g *evaluatingGateway) Run(ctx context.Context) error {
	return runParts(ctx, []part{{"store", g.gateway.Run}, {"query", g.query.Run}})
}
