package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/selfscrape"
	"github.com/hindsight-io/hindsight/pkg/server"
	"github.com/hindsight-io/hindsight/pkg/store"
)

// all is four roles as one component.
type all struct {
	receive *receive.Receive
	store   *store.Gateway
	compact *compact.Compactor
	query   *query.Query

	logger     *slog.Logger
	gatherer   prometheus.Gatherer
	selfScrape bool
	instance   string // address of the HTTP server
}

// RegisterHTTP joins the querier's API and pages with the write endpoints.
func (a *all) RegisterHTTP(mux *http.ServeMux) {
	a.query.RegisterHTTP(mux)
	a.receive.RegisterWrite(mux)
	a.receive.RegisterAPI(mux)
	a.receive.RegisterPages(mux, a.query.UI())
	a.compact.RegisterAPI(mux)
	mux.Handle("GET /blocks", a.query.UI())
	mux.Handle("GET /compaction", a.query.UI())
}

// RegisterGRPC serves the services of the querier, which cover all roles.
func (a *all) RegisterGRPC(r grpc.ServiceRegistrar) { a.query.RegisterGRPC(r) }

// Ready is nil when all roles are ready.
func (a *all) Ready() error {
	return errors.Join(a.receive.Ready(), a.store.Ready(), a.query.Ready())
}

// Reload reads the configuration of all roles again.
func (a *all) Reload(ctx context.Context) error {
	return errors.Join(a.receive.Reload(ctx), a.query.Reload(ctx), a.compact.Reload(ctx))
}

// Drain ends calls that do not end by themselves.
func (a *all) Drain() { a.receive.Drain() }

// Run starts storage before the roles that read it, and stops in the reverse order.
func (a *all) Run(ctx context.Context) error {
	parts := []part{
		{"receive", a.receive.Run}, {"store", a.store.Run}, {"compact", a.compact.Run}, {"query", a.query.Run},
	}
	if a.selfScrape {
		parts = append(parts, part{"self-scrape", a.scrapeSelf})
	}
	return runParts(ctx, parts)
}

func (a *all) scrapeSelf(ctx context.Context) error {
	return selfscrape.Run(ctx, selfscrape.Config{
		Gatherer: a.gatherer, Instance: a.instance, Logger: a.logger.With("component", "self-scrape"),
		Into: a.receive.Appendable("default-tenant"),
	})
}

type part struct {
	name string
	run  func(context.Context) error
}

// runParts runs all parts until ctx is cancelled or one of them ends, and then
// stops them one after the other, the last one first.
func runParts(ctx context.Context, parts []part) error {
	type running struct {
		stop context.CancelFunc
		err  error
		done chan struct{}
	}
	ended := make(chan struct{}, len(parts))
	all := make([]*running, len(parts))
	for i, p := range parts {
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{stop: stop, done: make(chan struct{})}
		all[i] = r
		go func() {
			defer close(r.done)
			if err := p.run(partCtx); err != nil {
				r.err = fmt.Errorf("%s: %w", p.name, err)
			}
			ended <- struct{}{}
		}()
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		all[i].stop()
		<-all[i].done
		errs = append(errs, all[i].err)
	}
	return errors.Join(errs...)
}

// greet prints the next steps for a new user.
func greet(w io.Writer, a server.Addresses) {
	addr := a.HTTP
	if host, port, err := net.SplitHostPort(addr); err == nil && net.ParseIP(host).IsUnspecified() {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	fmt.Fprintf(w, `
Hindsight runs.

  pages and Prometheus API   http://%[1]s        (Grafana: a Prometheus data source with this URL)
  remote write               http://%[1]s/api/v1/receive   and   /api/v1/push
  metrics, probes            http://%[1]s/metrics   /-/ready   /-/healthy
  StoreAPI (gRPC)            %[2]s

Put this into prometheus.yml:

  remote_write:
    - url: http://%[1]s/api/v1/receive

It stores its own metrics; within a minute this has an answer:

  curl -s 'http://%[1]s/api/v1/query?query=up'

Ctrl-C ends it.

`, addr, a.GRPC)
}
