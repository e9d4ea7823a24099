package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// changeConfig holds the flags of the commands that choose blocks by the rules of the
// compactor and delete or mark them.
type changeConfig struct {
	tool             toolConfig
	consistencyDelay time.Duration
	concurrency      int
	selector         selectorFlag
	yes, dryRun      bool
	output           string
}

func (c *changeConfig) register(r flags.Registrar) {
	c.tool.register(r)
	r.Flag("consistency-delay", "Leave complete blocks of producers alone until they are this old.").Default("30m").DurationVar(&c.consistencyDelay)
	r.Flag("block-sync-concurrency", "Number of meta.json files that are read at one time.").Default("20").IntVar(&c.concurrency)
	c.selector.register(r)
	r.Flag("yes", "Change the bucket. Without it, the command lists what it would do and exits with 2 if there is anything.").Default("false").BoolVar(&c.yes)
	r.Flag("dry-run", "List what the command would do, and exit with 0.").Default("false").BoolVar(&c.dryRun)
	r.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
}

// changeRow is one block and what happens to it.
type changeRow struct {
	Block string `json:"block" yaml:"block"`
	Job   string `json:"job" yaml:"job"`
	// Rule is the retention rule whose series go, of series within a block; Series is
	// their number, Bytes about their size.
	Rule   string `json:"rule,omitempty" yaml:"rule,omitempty"`
	Series uint64 `json:"series,omitempty" yaml:"series,omitempty"`
	Bytes  int64  `json:"bytes,omitempty" yaml:"bytes,omitempty"`
	Reason string `json:"reason" yaml:"reason"`
	Result string `json:"result" yaml:"result"`

	job *plan.Job // nil when nothing is to be done
}

// The job of a row that changes nothing.
const jobKeep = "keep"

// choice is what a command does with the plan of the compactor.
type choice struct {
	policy plan.Policy
	// takes says whether the command carries out a job.
	takes func(j *plan.Job) bool
	// keeps returns rows of blocks that stay, to say why; nil for none.
	keeps func(v *blocklist.View, p *plan.Plan, now time.Time) []changeRow
	// bySeries says whether the list, without --yes, also has the series that the
	// retention rules remove from blocks. The command itself does not remove them.
	bySeries bool
}

// run plans, lists the jobs of the command, and with --yes carries them out.
func (c *changeConfig) run(ctx context.Context, s streams, ch choice) error {
	shard, err := c.selector.filter()
	if err != nil {
		return err
	}
	if c.yes && c.dryRun {
		return flags.Invalid(errors.New("--dry-run and --yes exclude each other"))
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		clock := bucketClock{now: time.Now(), local: time.Now(), policy: &ch.policy}
		if c.yes {
			if err := clock.read(ctx, s, bkt); err != nil {
				return err
			}
		}
		now := clock.now
		v, err := poll(ctx, p, bkt, c.concurrency)
		if err != nil {
			return err
		}
		_, foreign := v.Apply(shard, blocklist.ConsistencyDelay(c.consistencyDelay))
		ch.policy.Owns = func(m *block.Meta) bool { return foreign[m.ULID] == "" }
		pv := compact.PlanView(v)
		if clock.full {
			pv.Marked = nil
		}
		var series *expiredList
		if ch.bySeries && !c.yes {
			series, err = ch.lookForExpired(ctx, s, bkt, v, now)
			pv.Rewrites = series.rewrites()
		}
		made := plan.Make(pv, ch.policy, now)
		rows := append(ch.rows(v, &made, now), series.rows(&made)...)
		if c.yes {
			err = applyJobs(ctx, s, bkt, rows, clock)
		}
		if perr := printChanges(s, c.output, rows, ch.bySeries); perr != nil || err != nil {
			return errors.Join(perr, err)
		}
		return c.undone(rows)
	})
}

// rows lists the jobs that the command takes.
func (ch *choice) rows(v *blocklist.View, p *plan.Plan, now time.Time) []changeRow {
	rows := []changeRow{}
	for i := range p.Jobs {
		if j := &p.Jobs[i]; ch.takes(j) {
			rows = append(rows, changeRow{Block: j.Blocks[0].String(), Job: string(j.Kind), Reason: j.Reason, Result: "not done", job: j})
		}
	}
	if ch.keeps != nil {
		rows = append(rows, ch.keeps(v, p, now)...)
	}
	return rows
}

// undone returns an error when there was something to do and neither --yes nor --dry-run:
// a script must not mistake the list for the change.
func (c *changeConfig) undone(rows []changeRow) error {
	n := 0
	for _, r := range rows {
		if r.job != nil {
			n++
		}
	}
	if n == 0 || c.yes || c.dryRun {
		return nil
	}
	return flags.Invalid(fmt.Errorf("nothing was changed: give --yes to carry out the %d jobs above, or --dry-run to list them only", n))
}

// applyJobs carries out the jobs one by one. A failure does not stop the others. Each job
// can be interrupted at any request: the next run continues it.
func applyJobs(ctx context.Context, s streams, bkt bucket.Bucket, rows []changeRow, clock bucketClock) error {
	pr := newProgress(s)
	defer pr.end()
	var errs []error
	for i := range rows {
		r := &rows[i]
		if r.job == nil {
			continue
		}
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		pr.show(i, len(rows), "jobs done")
		result, err := applyJob(ctx, bkt, r.job, clock)
		if err != nil {
			result = "failed"
			errs = append(errs, err)
		}
		r.Result = result
		if failsForAll(err) {
			break
		}
	}
	return errors.Join(errs...)
}

// applyJob carries out one job. It looks again at the condition of a deletion, because
// the bucket may have changed since it was listed.
func applyJob(ctx context.Context, bkt bucket.Bucket, j *plan.Job, clock bucketClock) (string, error) {
	id := j.Blocks[0]
	switch j.Kind {
	case plan.Delete:
		deleted, err := block.DeleteMarked(ctx, bkt, id, clock.due)
		return either(deleted, "deleted", "kept: its mark was removed or is a new one"), err
	case plan.CleanPartial:
		deleted, err := block.DeletePartial(ctx, bkt, id, clock.now)
		return either(deleted, "deleted", "kept: its upload has ended or goes on"), err
	case plan.MarkDeletion:
		marked, err := block.MarkDeletion(ctx, bkt, id, j.Details, clock.time())
		return either(marked, "marked", "already marked"), err
	}
	return "", fmt.Errorf("job %s of block %s is not one of this command", j.Kind, id)
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// printChanges prints the rows. The table has the columns of series where rules are given.
func printChanges(s streams, form string, rows []changeRow, bySeries bool) error {
	r := report{list: rows, header: []string{"BLOCK", "JOB", "REASON", "RESULT"}}
	if bySeries {
		r.header = slices.Insert(r.header, 2, "RULE", "SERIES", "BYTES")
	}
	for _, row := range rows {
		cells := []string{row.Block, row.Job, row.Reason, row.Result}
		switch {
		case bySeries && row.Series > 0:
			cells = slices.Insert(cells, 2, row.Rule, strconv.FormatUint(row.Series, 10), strconv.FormatInt(row.Bytes, 10))
		case bySeries:
			cells = slices.Insert(cells, 2, "", "", "")
		}
		r.cells = append(r.cells, cells)
	}
	return r.print(s.out, form)
}

// cleanupCommand adds the command that deletes marked blocks and partial uploads.
func cleanupCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("cleanup", "Deletes the blocks whose deletion mark is old enough, and uploads that were given up: directories without meta.json that nothing was written to for 48h. A directory with a damaged meta.json is kept.")
	var c changeConfig
	var delay flags.Duration
	c.register(cmd)
	cmd.Flag("delete-delay", "Time between the deletion mark of a block and its deletion; 0 deletes at once.").Default("48h").SetValue(&delay)
	return command{name: "cleanup", run: func(ctx context.Context, s streams) error {
		return c.run(ctx, s, choice{
			policy: plan.Policy{Ranges: plan.Ranges(), DeleteDelay: delay.Duration()},
			takes:  func(j *plan.Job) bool { return j.Kind == plan.Delete || j.Kind == plan.CleanPartial },
			keeps:  keptPartials,
		})
	}}
}

// keptPartials says why directories that are no usable blocks are kept.
func keptPartials(v *blocklist.View, p *plan.Plan, _ time.Time) []changeRow {
	var rows []changeRow
	for _, s := range p.Skipped {
		if v.Metas[s.Block] == nil {
			rows = append(rows, changeRow{Block: s.Block.String(), Job: jobKeep, Reason: s.Details, Result: "kept"})
		}
	}
	return rows
}

// retentionConfig holds the flags of tools bucket retention.
type retentionConfig struct {
	changeConfig
	raw, fiveMinutes, oneHour flags.Duration
	rules                     flags.PathOrContent
	deleteDelay               flags.Duration
	replicaLabels             flags.List
	noDownsampling            bool
}

// retentionCommand adds the command that marks blocks that are out of retention.
func retentionCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("retention", "Marks the blocks that are out of retention for deletion, by the rules of the compactor: data is kept while the coarser data that should replace it does not exist.")
	var c retentionConfig
	c.register(cmd)
	cmd.Flag("retention.resolution-raw", "Keep raw data for this long; 0d is for ever.").Default("0d").SetValue(&c.raw)
	cmd.Flag("retention.resolution-5m", "Keep 5m data for this long; 0d is for ever.").Default("0d").SetValue(&c.fiveMinutes)
	cmd.Flag("retention.resolution-1h", "Keep 1h data for this long; 0d is for ever.").Default("0d").SetValue(&c.oneHour)
	c.rules.Register(cmd, "retention.config", "rules of the retention of tenants and series, as for the compactor; of series within a block it lists what the compactor removes", true)
	cmd.Flag("delete-delay", flags.Ignored("this command only marks; tools bucket cleanup and the compactor delete")).Default("48h").SetValue(&c.deleteDelay)
	cmd.Flag("deduplication.replica-label", "As for the compactor: replica label that it removed from the blocks it made. May be repeated, or hold several separated by commas.").SetValue(&c.replicaLabels)
	cmd.Flag("downsampling.disable", "Mark blocks also if no coarser data of them exists, for a bucket that is not downsampled.").Default("false").BoolVar(&c.noDownsampling)
	return command{name: "retention", run: func(ctx context.Context, s streams) error {
		policy := plan.Policy{
			Ranges: plan.Ranges(), ReplicaLabels: c.replicaLabels.Values(), Downsampling: !c.noDownsampling,
			Retention: map[int64]time.Duration{
				block.ResolutionRaw: c.raw.Duration(), block.Resolution5m: c.fiveMinutes.Duration(), block.Resolution1h: c.oneHour.Duration(),
			},
		}
		content, err := c.rules.Content()
		if err != nil {
			return err
		}
		if policy.Rules, err = compact.ParseRetentionRules(content); err != nil {
			return flags.Invalid(fmt.Errorf("retention rules %s: %w", c.rules.Source(), err))
		}
		if err := policy.Validate(); err != nil {
			return flags.Invalid(err)
		}
		// A mark of any age stays: this command deletes nothing.
		policy.DeleteDelay = 1 << 62
		return c.run(ctx, s, choice{
			policy: policy,
			// A block that another one supersedes is marked by the compactor.
			takes: func(j *plan.Job) bool { return j.Kind == plan.MarkDeletion && j.Overdue > 0 },
			keeps: func(v *blocklist.View, p *plan.Plan, now time.Time) []changeRow {
				return keptExpired(v, p, &policy, now)
			},
			bySeries: len(policy.Rules) > 0,
		})
	}}
}

// keptExpired says why blocks that are out of retention are not marked.
func keptExpired(v *blocklist.View, p *plan.Plan, policy *plan.Policy, now time.Time) []changeRow {
	why := map[ulid.ULID]string{}
	for _, s := range p.Skipped {
		why[s.Block] = s.Details
	}
	marked := map[ulid.ULID]bool{}
	for i := range p.Jobs {
		j := &p.Jobs[i]
		for _, id := range j.Blocks {
			why[id] = fmt.Sprintf("waits for a job of the compactor, %s: %s", j.Kind, j.Reason)
			marked[id] = j.Kind == plan.MarkDeletion
		}
	}
	rows := []changeRow{}
	for _, row := range sortedMetas(v) {
		if v.Deletion[row.ULID] != nil || marked[row.ULID] || !policy.OutOfRetention(row, now) {
			continue
		}
		reason := why[row.ULID]
		if reason == "" {
			reason = "not selected, or too fresh, or it has to be merged first"
		}
		rows = append(rows, changeRow{Block: row.ULID.String(), Job: jobKeep, Reason: reason, Result: "kept"})
	}
	return rows
}
