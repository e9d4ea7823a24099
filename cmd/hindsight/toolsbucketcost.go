package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/blockstat"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// costConfig holds the flags of tools bucket cost.
type costConfig struct {
	tool          toolConfig
	by            []string
	values        []string
	tenantLabel   string
	top           int
	times         timeFlags
	excludeDelete bool
	selector      selectorFlag
	output        string
}

// costCommand adds the command that adds up what series take in a bucket.
func costCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("cost", "Adds up the series, samples and bytes of all blocks by tenant, metric and label. By tenant it reads meta.json only; otherwise the index of each block, by ranges, and no chunks.")
	var c costConfig
	c.tool.register(cmd)
	cmd.Flag("by", "What to add up (repeatable): tenant, metric, label.").
		Default(blockstat.ByTenant, blockstat.ByMetric, blockstat.ByLabel).
		EnumsVar(&c.by, blockstat.ByTenant, blockstat.ByMetric, blockstat.ByLabel)
	cmd.Flag("label", "Add up by the values of this label, of series or external (repeatable).").StringsVar(&c.values)
	cmd.Flag("tenant-label", "External label whose values are the tenants.").Default("tenant_id").StringVar(&c.tenantLabel)
	cmd.Flag("top", "Number of rows of each kind, the largest first; 0 is all.").Default("20").IntVar(&c.top)
	c.times.register(cmd)
	cmd.Flag("exclude-delete", "Leave out the blocks that are marked for deletion.").Default("false").BoolVar(&c.excludeDelete)
	c.selector.register(cmd)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "cost", run: c.run}
}

// run adds up the blocks one by one. A block that cannot be read does not stop the others;
// the error lists all of them.
func (c *costConfig) run(ctx context.Context, s streams) error {
	if err := c.times.check(); err != nil {
		return err
	}
	shard, err := c.selector.filter()
	if err != nil {
		return err
	}
	if c.top < 0 {
		return flags.Invalid(errors.New("--top must not be negative"))
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		v, err := poll(ctx, p, bkt, 0)
		if err != nil {
			return err
		}
		v, _ = v.Apply(blocklist.TimePartition(c.times.millis(time.Now())), shard)
		cfg := blockstat.Config{
			Metrics: slices.Contains(c.by, blockstat.ByMetric), Labels: slices.Contains(c.by, blockstat.ByLabel), Values: c.values,
		}
		if slices.Contains(c.by, blockstat.ByTenant) {
			cfg.TenantLabel = c.tenantLabel
		}
		r := blockstat.New(cfg)
		err = c.add(ctx, s, bkt, v, r)
		return errors.Join(printCosts(s.out, c.output, r.Rows(c.top)), err)
	})
}

// add adds the blocks of a view to the report.
func (c *costConfig) add(ctx context.Context, s streams, bkt bucket.Reader, v *blocklist.View, r *blockstat.Report) error {
	pr := newProgress(s)
	defer pr.end()
	var errs []error
	metas := sortedMetas(v)
	for i, m := range metas {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if c.excludeDelete && v.Deletion[m.ULID] != nil {
			continue
		}
		pr.show(i, len(metas), "blocks read")
		err := r.Add(ctx, bkt, m, v.Sizes[m.ULID])
		// A block that is not found was deleted meanwhile.
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			errs = append(errs, fmt.Errorf("block %s: %w", m.ULID, err))
			if failsForAll(err) {
				break
			}
		}
	}
	return errors.Join(errs...)
}
