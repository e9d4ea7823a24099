package main

import (
	"context"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/server"
	"github.com/hindsight-io/hindsight/pkg/sidecar"
)

// readerHeapFloor is that of the querier, which streams the data of requests, and
// gatewayHeapFloor that of the gateway, whose caches and buffers are a heap already.
const (
	readerHeapFloor  = 32 << 20
	gatewayHeapFloor = 4 << 20
)

// build makes the component of a role.
type build func(ctx context.Context, p *process) (server.Component, error)

// runRole makes the process and the component, and runs the component.
func runRole(ctx context.Context, c *roleConfig, s streams, b build) error {
	p, err := newProcess(ctx, *c, s)
	if err != nil {
		return err
	}
	defer p.close()
	comp, err := b(ctx, p)
	if err != nil {
		return err
	}
	return p.serve(ctx, comp)
}

// sidecarCommand adds the command of the sidecar.
func sidecarCommand(app *kingpin.Application) command {
	cmd := app.Command("sidecar", "Runs beside one Prometheus: ships its blocks to the bucket and serves its data over StoreAPI.")
	var role roleConfig
	var c sidecar.Config
	role.register(cmd, true)
	role.registerBucket(cmd)
	c.RegisterFlags(cmd)
	return command{name: "sidecar", run: func(ctx context.Context, s streams) error {
		if err := c.Validate(); err != nil {
			return err
		}
		return runRole(ctx, &role, s, func(ctx context.Context, p *process) (server.Component, error) {
			p.showStatus(cmd)
			bkt, err := p.bucket(ctx)
			if err != nil {
				return nil, err
			}
			return sidecar.New(c, sidecar.Deps{Logger: p.logger, Registerer: p.registry, Bucket: bkt})
		})
	}}
}

// queryCommand adds the command of the querier.
func queryCommand(app *kingpin.Application) command {
	cmd := app.Command("query", "Queries all StoreAPI servers, merges the replicas of HA pairs, and serves the API of Prometheus.")
	role := roleConfig{heapFloor: readerHeapFloor}
	var c query.Config
	role.register(cmd, true)
	c.RegisterFlags(cmd)
	return command{name: "query", run: func(ctx context.Context, s streams) error {
		if err := c.Validate(); err != nil {
			return err
		}
		return runRole(ctx, &role, s, func(_ context.Context, p *process) (server.Component, error) {
			return query.New(c, query.Deps{
				Logger: p.logger, Registerer: p.registry, Gatherer: p.registry, Flags: flagValues(cmd),
			})
		})
	}}
}

// flagValues returns the values of a command's flags for the status page, without
// secrets.
func flagValues(cmd *kingpin.CmdClause) map[string]string {
	out := map[string]string{}
	for _, f := range cmd.Model().Flags {
		out[f.Name] = flags.Redact(f.Name, f.Value.String())
	}
	return out
}
