package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/telemetry"
)

// toolsGroup is the command that the tools are below.
const toolsGroup = "tools"

// toolCommands adds the group of commands that do one task and end. Each of them is
// named by its groups and itself: "tools recover", "tools bucket ls".
func toolCommands(app *kingpin.Application) []command {
	group := app.Command(toolsGroup, "Commands that do one task and end.")
	out := []command{recoverCommand(group), doctorCommand(group), checkCommand(group), rulesCheckCommand(group), probeCommand(group), sizingCommand(group), explainErrorCommand(group)}
	return slices.Concat(out, blockCommands(group), tsdbCommands(group), bucketCommands(group))
}

// toolConfig holds the flags that every tool has.
type toolConfig struct {
	telemetry telemetry.Config
	objstore  flags.PathOrContent
}

func (c *toolConfig) register(r flags.Registrar) {
	c.telemetry.RegisterFlags(r)
	c.objstore.Register(r, "objstore.config", "the object storage configuration", true)
}

// process makes logger and registry of a tool, which has no listeners. The caller
// calls close at the end.
func (c *toolConfig) process(s streams) (*process, error) {
	p := &process{
		config: roleConfig{telemetry: c.telemetry, objstore: c.objstore},
		logger: telemetry.NewLogger(c.telemetry, s.err), registry: prometheus.NewRegistry(),
	}
	if err := telemetry.LimitMemory(c.telemetry, p.logger); err != nil {
		return nil, flags.Invalid(err)
	}
	return p, nil
}

// withBucket runs a tool that needs a bucket with content: a directory that does not exist
// is an error, because it is one that was mistyped.
func (c *toolConfig) withBucket(ctx context.Context, s streams, f func(ctx context.Context, p *process, bkt bucket.Bucket) error) error {
	if err := requireDirectory(&c.objstore); err != nil {
		return err
	}
	return c.withNewBucket(ctx, s, f)
}

// requireDirectory returns an error if the bucket is a directory that does not exist. An
// empty configuration is the error of another check.
func requireDirectory(objstore *flags.PathOrContent) error {
	content, err := objstore.Content()
	if err != nil || len(content) == 0 {
		return err
	}
	if err := provider.CheckDirectory(content); err != nil {
		return fmt.Errorf("object storage configuration %s: %w", objstore.Source(), err)
	}
	return nil
}

// withNewBucket runs a tool that uploads: it may create the directory of the bucket.
func (c *toolConfig) withNewBucket(ctx context.Context, s streams, f func(ctx context.Context, p *process, bkt bucket.Bucket) error) error {
	p, err := c.process(s)
	if err != nil {
		return err
	}
	defer p.close()
	bkt, err := p.requiredBucket(ctx)
	if err != nil {
		return err
	}
	return f(ctx, p, newAudited(bkt, p.logger, s.command))
}
