package main

import (
	"context"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/dirlock"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// downsampleConfig holds the flags of tools bucket downsample.
type downsampleConfig struct {
	tool         toolConfig
	compact      compact.Config
	waitInterval time.Duration
	http         ignoredHTTP
}

// downsampleCommand adds the command that downsamples what is due, once.
func downsampleCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("downsample", "Makes the 5m and 1h data that the rules of the compactor make of the blocks of a bucket now, and ends. Each result is checked before and after its upload. It merges, marks and deletes nothing else.")
	c := downsampleConfig{compact: compact.DefaultConfig()}
	c.compact.ConsistencyDelay = 0 // a complete block can be downsampled at any age
	c.tool.register(cmd)
	cmd.Flag("data-dir", "Work directory. Files of an earlier run are removed; a directory in use by another compactor is refused.").Default("./data").StringVar(&c.compact.DataDir)
	cmd.Flag("downsample.concurrency", "Number of blocks that are downsampled at one time.").Default("1").IntVar(&c.compact.DownsampleConcurrency)
	cmd.Flag("block-files-concurrency", "Number of files of a block that are transferred at one time.").Default("1").IntVar(&c.compact.FilesConcurrency)
	cmd.Flag("hash-func", "Hash of each file that is recorded in meta.json: empty (none) or SHA256.").Default("").EnumVar(&c.compact.HashFunc, "", "SHA256")
	cmd.Flag("wait-interval", flags.Ignored("the command ends when nothing is left to downsample")).Default("5m").DurationVar(&c.waitInterval)
	c.http.register(cmd)
	return command{name: "downsample", run: func(ctx context.Context, s streams) error {
		return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
			if err := p.lock(dirlock.Part, c.compact.DataDir, "compact"); err != nil {
				return err
			}
			comp, err := compact.New(c.compact, compact.Deps{
				Logger: p.logger, Registerer: p.registry, Bucket: bkt,
				Only: func(j *plan.Job) bool { return j.Kind == plan.Downsample },
			})
			if err != nil {
				return err
			}
			return comp.RunOnce(ctx)
		})
	}}
}

// ignoredHTTP are the flags of the HTTP server that Thanos starts beside a tool. Tools that
// do one task and end start none.
type ignoredHTTP struct {
	address, config string
	grace           time.Duration
}

func (c *ignoredHTTP) register(r flags.Registrar) {
	const why = "the command has no HTTP server"
	r.Flag("http-address", flags.Ignored(why)).StringVar(&c.address)
	r.Flag("http-grace-period", flags.Ignored(why)).Default("2m").DurationVar(&c.grace)
	r.Flag("http.config", flags.Ignored(why)).StringVar(&c.config)
}
