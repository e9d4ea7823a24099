package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// verifyConfig holds the flags of tools bucket verify.
type verifyConfig struct {
	tool       toolConfig
	claim      claimConfig
	issues     []string
	ids        []string
	quarantine bool
	reDerive   bool
	// repair is both, and repairs duplicates, after a copy into the backup bucket.
	repair      bool
	backup      flags.PathOrContent
	deleteDelay flags.Duration
	workDir     string
	output      string
}

// verifyCommand adds the command that checks blocks.
func verifyCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("verify", "Reads the blocks of a bucket and reports what is wrong with them. Exit code 0: no findings; 1: findings; 2: it could not look. It only reads, unless --repair, --quarantine or --re-derive is given.")
	var c verifyConfig
	c.tool.register(cmd)
	c.claim.register(cmd)
	cmd.Flag("issues", "What to check (repeatable): index_known_issues downloads each block and checks sizes, checksums, the order of series and chunks, and statistics; overlapped_blocks and duplicated_compaction compare the meta.json of blocks.").
		Short('i').Default(bucketadmin.IssueIndex, bucketadmin.IssueOverlap).
		EnumsVar(&c.issues, bucketadmin.IssueIndex, bucketadmin.IssueOverlap, bucketadmin.IssueDuplicate)
	cmd.Flag("id", "Check only this block (repeatable).").StringsVar(&c.ids)
	cmd.Flag("quarantine", "Mark damaged blocks no-compact and no-downsample. They stay readable; tools bucket mark --remove undoes it.").
		Default("false").BoolVar(&c.quarantine)
	cmd.Flag("re-derive", "Mark damaged 5m and 1h blocks for deletion if the finer block that they were made of is there and sound: the compactor, or tools bucket downsample, makes them again.").
		Default("false").BoolVar(&c.reDerive)
	cmd.Flag("repair", "Copy each damaged block into the bucket of --objstore-backup.config, and then do as --re-derive and --quarantine do. With --issues=duplicated_compaction, do so with second results of one compaction, and mark them for deletion.").
		Short('r').Default("false").BoolVar(&c.repair)
	c.backup.Register(cmd, "objstore-backup.config", "the object storage for copies of the blocks that --repair changes; must be another bucket", true)
	cmd.Flag("delete-delay", flags.Ignored("this command only marks; tools bucket cleanup and the compactor delete")).Default("0s").SetValue(&c.deleteDelay)
	cmd.Flag("work-dir", "Directory for one block at a time; empty means the directory for temporary files.").StringVar(&c.workDir)
	cmd.Flag("output", "Form of the report: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "verify", run: func(ctx context.Context, s streams) error {
		err := c.run(ctx, s)
		if err == nil || errors.As(err, new(findings)) {
			return err
		}
		return exitError{error: err, code: exitUsage}
	}}
}

func (c *verifyConfig) checks(issue string) bool { return slices.Contains(c.issues, issue) }

// run checks the blocks and prints the findings, by block. It prints those that it has
// also if a block could not be read.
func (c *verifyConfig) run(ctx context.Context, s streams) error {
	ids, err := blockIDs(c.ids)
	if err != nil {
		return err
	}
	if c.repair && !c.backup.IsSet() {
		return flags.Invalid(errors.New("--repair needs a bucket for copies of the blocks; give --objstore-backup.config-file=<path>, or --quarantine or --re-derive, which need none"))
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		backup, err := c.openBackup(ctx, p, bkt)
		if err != nil {
			return err
		}
		v, err := poll(ctx, p, bkt, 0)
		if err != nil {
			return err
		}
		for _, id := range ids {
			_, unusable := v.Unusable[id]
			if v.Metas[id] == nil && !unusable {
				return flags.Invalid(fmt.Errorf("--id=%s: the bucket has no such complete block", id))
			}
		}
		found := c.compare(v)
		deep, lookErr := c.read(ctx, s, bkt, v, ids)
		found = append(found, deep...)
		if len(ids) > 0 {
			found = slices.DeleteFunc(found, func(f bucketadmin.Finding) bool { return !slices.Contains(c.ids, f.Block) })
		}
		slices.SortStableFunc(found, func(a, b bucketadmin.Finding) int { return cmp.Compare(a.Block, b.Block) })
		if c.quarantine || c.reDerive || c.repair {
			lookErr = errors.Join(lookErr, c.mend(ctx, s, p, bkt, mending{v, found, backup}))
		}
		r := report{list: append([]bucketadmin.Finding{}, found...), header: []string{"BLOCK", "ISSUE", "KIND", "DETAILS"}}
		for _, f := range found {
			r.cells = append(r.cells, []string{f.Block, f.Issue, f.Kind, f.Details})
		}
		if err := r.print(s.out, c.output); err != nil {
			return err
		}
		switch {
		case lookErr != nil:
			return lookErr
		case len(found) > 0:
			return findings(len(found))
		}
		return nil
	})
}

// compare makes the checks that need no more than the listing.
func (c *verifyConfig) compare(v *blocklist.View) []bucketadmin.Finding {
	var found []bucketadmin.Finding
	if c.checks(bucketadmin.IssueIndex) {
		found = append(found, bucketadmin.CheckUnusable(v)...)
	}
	if c.checks(bucketadmin.IssueOverlap) {
		found = append(found, bucketadmin.CheckOverlaps(v)...)
	}
	if c.checks(bucketadmin.IssueDuplicate) {
		found = append(found, bucketadmin.CheckDuplicates(v)...)
	}
	return found
}

// read checks the blocks one by one. A block that cannot be read does not stop the
// others; the error lists all of them.
func (c *verifyConfig) read(ctx context.Context, s streams, bkt bucket.Bucket, v *blocklist.View, ids []ulid.ULID) (found []bucketadmin.Finding, err error) {
	if !c.checks(bucketadmin.IssueIndex) {
		return nil, nil
	}
	dir, err := os.MkdirTemp(c.workDir, "hindsight-verify-")
	if err != nil {
		return nil, fmt.Errorf("make work directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pr := newProgress(s)
	defer pr.end()
	var errs []error
	metas := sortedMetas(v)
	for i, m := range metas {
		id := m.ULID
		if len(ids) > 0 && !slices.Contains(ids, id) {
			continue
		}
		if ctx.Err() != nil {
			return found, errors.Join(append(errs, ctx.Err())...)
		}
		pr.show(i, len(metas), "blocks checked")
		bad := bucketadmin.CheckSizes(m, v.Sizes[id])
		var err error
		if len(bad) == 0 {
			bad, err = bucketadmin.CheckBlock(ctx, bkt, m, dir)
		}
		// A block that is not found was deleted meanwhile.
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			errs = append(errs, fmt.Errorf("block %s: %w", id, err))
			if failsForAll(err) {
				break
			}
		}
		found = append(found, bad...)
	}
	return found, errors.Join(errs...)
}
