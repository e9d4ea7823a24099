package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// replicateConfig holds the flags of tools bucket replicate.
type replicateConfig struct {
	tool         toolConfig
	to           flags.PathOrContent
	resolutions  []string
	minLevel     int
	maxLevel     int
	levels       []int
	matcher      string
	singleRun    bool
	http         ignoredHTTP
	interval     time.Duration
	times        timeFlags
	ids          []string
	ignoreMarked bool
	output       string
}

// replicateCommand adds the command that copies blocks to another bucket.
func replicateCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("replicate", "Copies blocks to another bucket, the oldest first, at once and then in intervals. It deletes nothing in either bucket, and copies no marks. An interrupted copy is continued.")
	var c replicateConfig
	c.tool.register(cmd)
	c.to.Register(cmd, "objstore-to.config", "the object storage configuration of the target", true)
	cmd.Flag("resolution", "Copy blocks of this resolution: 0s, 5m or 1h (repeatable).").Default("0s", "5m", "1h").StringsVar(&c.resolutions)
	cmd.Flag("compaction-min", "Copy blocks of this compaction level or higher.").Default("1").IntVar(&c.minLevel)
	cmd.Flag("compaction-max", "Copy blocks of this compaction level or lower.").Default("4").IntVar(&c.maxLevel)
	cmd.Flag("compaction", "Copy blocks of this compaction level (repeatable); --compaction-min and --compaction-max are not used then.").IntsVar(&c.levels)
	cmd.Flag("matcher", `Copy blocks whose external labels match, such as {cluster="eu",replica!~"b|c"}.`).StringVar(&c.matcher)
	c.http.register(cmd)
	cmd.Flag("single-run", "Copy once and end.").Default("false").BoolVar(&c.singleRun)
	cmd.Flag("interval", "Pause between two passes without --single-run.").Default("1m").DurationVar(&c.interval)
	c.times.register(cmd)
	cmd.Flag("id", "Copy only this block (repeatable). Other filters still apply.").StringsVar(&c.ids)
	cmd.Flag("ignore-marked-for-deletion", "Leave out blocks that are marked for deletion in the source.").Default("false").BoolVar(&c.ignoreMarked)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "replicate", run: c.run}
}

// maxLevels bounds the number of levels between --compaction-min and --compaction-max.
const maxLevels = 1000

// selection checks the filters. now is the time that relative times refer to.
func (c *replicateConfig) selection(now time.Time) (*bucketadmin.Selection, error) {
	s := &bucketadmin.Selection{
		Levels: c.levels, IgnoreMarked: c.ignoreMarked,
	}
	s.MinTime, s.MaxTime = c.times.millis(now)
	var err error
	if s.IDs, err = blockIDs(c.ids); err != nil {
		return nil, err
	}
	if s.Matchers, err = labelMatchers("--matcher", c.matcher); err != nil {
		return nil, err
	}
	for _, r := range c.resolutions {
		d, err := model.ParseDuration(r)
		if err != nil {
			return nil, flags.Invalid(fmt.Errorf("--resolution=%s: %w", r, err))
		}
		s.Resolutions = append(s.Resolutions, time.Duration(d).Milliseconds())
	}
	if c.maxLevel < c.minLevel || c.maxLevel-c.minLevel >= maxLevels {
		return nil, flags.Invalid(fmt.Errorf("--compaction-max must be from --compaction-min on, and less than %d levels above it", maxLevels))
	}
	if len(s.Levels) == 0 {
		for l := c.minLevel; l <= c.maxLevel; l++ {
			s.Levels = append(s.Levels, l)
		}
	}
	return s, nil
}

// run copies once, or in intervals until the process is ended. A failed pass is then
// logged and repeated.
func (c *replicateConfig) run(ctx context.Context, s streams) error {
	if _, err := c.selection(time.Now()); err != nil {
		return err
	}
	if err := c.times.check(); err != nil {
		return err
	}
	if !c.singleRun && c.interval <= 0 {
		return flags.Invalid(errors.New("--interval must be positive"))
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, from bucket.Bucket) error {
		to, err := c.target(ctx, p)
		if err != nil {
			return err
		}
		if to.Name() == from.Name() {
			return flags.Invalid(fmt.Errorf("--objstore-to.config: %s is the bucket that is copied from", to.Name()))
		}
		r := &replication{
			replicateConfig: c, s: s, from: from, to: to,
			source: blocklist.NewPoller(from, blocklist.Config{Logger: p.logger}),
			target: blocklist.NewPoller(to, blocklist.Config{Logger: p.logger}),
		}
		for {
			err := r.pass(ctx)
			if c.singleRun {
				return err
			}
			if err != nil && ctx.Err() == nil {
				p.logger.Error("pass failed", "err", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(c.interval):
			}
		}
	})
}

// target opens the bucket that is copied to. The process closes it.
func (c *replicateConfig) target(ctx context.Context, p *process) (bucket.Bucket, error) {
	if !c.to.IsSet() {
		return nil, flags.Invalid(errors.New("no target is configured; give --objstore-to.config-file=<path> with type and config of the object storage"))
	}
	return p.another(ctx, &c.to)
}

// replication is a run of tools bucket replicate.
type replication struct {
	*replicateConfig
	s              streams
	from, to       bucket.Bucket
	source, target *blocklist.Poller
}

// copyRow is one selected block.
type copyRow struct {
	Block  string            `json:"block" yaml:"block"`
	Labels map[string]string `json:"labels" yaml:"labels"`
	Result string            `json:"result" yaml:"result"`
	Bytes  int64             `json:"copied_bytes" yaml:"copied_bytes"`
}

// pass copies the blocks that the target lacks. A block that fails does not stop the
// others. In intervals it lists only the blocks that it copied or could not copy.
func (r *replication) pass(ctx context.Context) error {
	sel, err := r.selection(time.Now())
	if err != nil {
		return err
	}
	source, err := r.source.Poll(ctx)
	if err != nil {
		return fmt.Errorf("list the blocks of the source: %w", err)
	}
	target, err := r.target.Poll(ctx)
	if err != nil {
		return fmt.Errorf("list the blocks of the target: %w", err)
	}
	pr := newProgress(r.s)
	var errs []error
	rows := []copyRow{}
	copies := bucketadmin.Copies(sel, source, target)
	for i, c := range copies {
		row := copyRow{Block: c.Meta.ULID.String(), Labels: c.Meta.Thanos.Labels, Result: c.Done}
		if c.Done == "" {
			if ctx.Err() != nil {
				errs = append(errs, ctx.Err())
				break
			}
			pr.show(i, len(copies), "blocks copied")
			row.Bytes, err = bucketadmin.CopyBlock(ctx, r.from, r.to, c.Meta.ULID, source.Sizes[c.Meta.ULID])
			switch {
			case errors.Is(err, bucket.ErrNotFound):
				row.Result = "deleted in the source meanwhile"
			case err != nil:
				row.Result = "failed"
				errs = append(errs, err)
			default:
				row.Result = "copied"
			}
		} else if !r.singleRun {
			continue
		}
		rows = append(rows, row)
		if len(errs) > 0 && failsForAll(errs[len(errs)-1]) {
			break
		}
	}
	pr.end()
	return errors.Join(append(errs, r.print(rows))...)
}

// print lists the blocks; a pass in an interval without any prints nothing.
func (r *replication) print(rows []copyRow) error {
	if len(rows) == 0 && !r.singleRun {
		return nil
	}
	out := report{list: rows, header: []string{"BLOCK", "LABELS", "RESULT", "COPIED BYTES"}}
	for _, row := range rows {
		out.cells = append(out.cells, []string{row.Block, labelText(row.Labels), row.Result, fmt.Sprint(row.Bytes)})
	}
	return out.print(r.s.out, r.output)
}
