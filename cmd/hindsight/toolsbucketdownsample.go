package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
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
	output       string
}

// downsampledRow is one block that the command made.
type downsampledRow struct {
	Block      string            `json:"block" yaml:"block"`
	Resolution string            `json:"resolution" yaml:"resolution"`
	From       string            `json:"from" yaml:"from"`
	Until      string            `json:"until" yaml:"until"`
	Labels     map[string]string `json:"labels" yaml:"labels"`
	Series     uint64            `json:"series" yaml:"series"`
	Samples    uint64            `json:"samples" yaml:"samples"`
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
	cmd.Flag("output", "Form of the list of new blocks: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "downsample", run: func(ctx context.Context, s streams) error {
		return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
			return c.run(ctx, s, p, bkt)
		})
	}}
}

// run downsamples, and lists the blocks that it made, also after a failure.
func (c *downsampleConfig) run(ctx context.Context, s streams, p *process, bkt bucket.Bucket) error {
	if err := p.lock(dirlock.Part, c.compact.DataDir, "compact"); err != nil {
		return err
	}
	made := &publishing{Bucket: bkt}
	comp, err := compact.New(c.compact, compact.Deps{
		Logger: p.logger, Registerer: p.registry, Bucket: made, Terminal: terminal(s.err),
		Only: func(j *plan.Job) bool { return j.Kind == plan.Downsample },
	})
	if err != nil {
		return err
	}
	err = comp.RunOnce(ctx)
	return errors.Join(c.print(ctx, s, made), err)
}

// print lists the new blocks. It reads their meta.json also when the command was interrupted:
// the list says what was done until then.
func (c *downsampleConfig) print(ctx context.Context, s streams, made *publishing) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	rows := []downsampledRow{}
	r := report{header: []string{"BLOCK", "RESOLUTION", "FROM", "UNTIL", "LABELS", "SERIES", "SAMPLES"}}
	var errs []error
	for _, id := range made.blocks {
		m, err := block.ReadMeta(ctx, made.Bucket, id)
		if errors.Is(err, bucket.ErrNotFound) {
			continue // its check has failed, or a compactor has merged and deleted it
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		row := downsampledRow{
			Block: id.String(), Resolution: plan.ResolutionName(m.Resolution()), From: timeText(m.MinTime), Until: timeText(m.MaxTime),
			Labels: m.Thanos.Labels, Series: m.Stats.NumSeries, Samples: m.Stats.NumSamples,
		}
		rows = append(rows, row)
		r.cells = append(r.cells, []string{
			row.Block, row.Resolution, row.From, row.Until, labelText(row.Labels), fmt.Sprint(row.Series), fmt.Sprint(row.Samples),
		})
	}
	r.list = rows
	return errors.Join(append(errs, r.print(s.out, c.output))...)
}

// publishing is a bucket that notes the blocks whose meta.json was written, in their order.
type publishing struct {
	bucket.Bucket

	mu     sync.Mutex
	blocks []ulid.ULID
}

// Upload implements bucket.Bucket.
func (b *publishing) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	err := b.Bucket.Upload(ctx, name, r, size)
	if id, rel, ok := block.ParsePath(name); ok && rel == block.MetaFile && err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.blocks = append(b.blocks, id)
	}
	return err
}

// GetVersion implements bucket.Conditional.
func (b *publishing) GetVersion(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	return bucket.Conditions(b.Bucket).GetVersion(ctx, name, limit)
}

// PutIf implements bucket.Conditional.
func (b *publishing) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	return bucket.Conditions(b.Bucket).PutIf(ctx, name, data, old)
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
