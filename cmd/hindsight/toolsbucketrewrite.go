package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// rewriteConfig holds the flags of tools bucket rewrite.
type rewriteConfig struct {
	tool         toolConfig
	claim        claimConfig
	ids          []string
	tmpDir       string
	dryRun       bool
	promBlocks   bool
	deleteBlocks bool
	hashFunc     string
	deletions    flags.PathOrContent
	relabel      flags.PathOrContent
	changeLog    bool
	output       string
}

// rewriteCommand adds the command that deletes series of blocks, or relabels them.
func rewriteCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("rewrite", "Makes new blocks of blocks, without the samples of chosen series or with other labels. A dry run by default: it counts what would change, and writes only the change log. A run that was interrupted is continued by the same command.")
	var c rewriteConfig
	c.tool.register(cmd)
	c.claim.register(cmd)
	cmd.Flag("id", "ULID of a block (repeatable).").Required().StringsVar(&c.ids)
	cmd.Flag("tmp.dir", "Directory for one block at a time, and for the change logs, which stay; empty means hindsight-rewrite in the directory for temporary files.").StringVar(&c.tmpDir)
	cmd.Flag("dry-run", "Change nothing in the bucket; --no-dry-run uploads the new blocks.").Default("true").BoolVar(&c.dryRun)
	cmd.Flag("prom-blocks", flags.Ignored("a block of a bucket needs external labels")).Default("false").BoolVar(&c.promBlocks)
	cmd.Flag("delete-blocks", "Mark the blocks for deletion once their rewritten blocks are verified in the bucket. Without it, the compactor does so, because the rewritten block supersedes the other.").Default("false").BoolVar(&c.deleteBlocks)
	cmd.Flag("hash-func", "Hash of each file that is recorded in meta.json: empty (none) or SHA256.").Default("").EnumVar(&c.hashFunc, "", block.HashSHA256)
	c.deletions.Register(cmd, "rewrite.to-delete-config", "deletions: a list of matchers, and of intervals with mint and maxt in milliseconds, both inclusive; no intervals mean all time", true)
	c.relabel.Register(cmd, "rewrite.to-relabel-config", "relabelling rules for all series; a series without labels afterwards is removed", true)
	cmd.Flag("rewrite.add-change-log", "Write each changed series into a file.").Default("true").BoolVar(&c.changeLog)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "rewrite", run: c.run}
}

// rewriteRow is the result for one block.
type rewriteRow struct {
	Block string `json:"block" yaml:"block"`
	// Rewritten is the new block, empty without one.
	Rewritten      string `json:"rewritten,omitempty" yaml:"rewritten,omitempty"`
	ChangedSeries  uint64 `json:"changed_series" yaml:"changed_series"`
	RemovedSeries  uint64 `json:"removed_series" yaml:"removed_series"`
	RemovedSamples uint64 `json:"removed_samples" yaml:"removed_samples"`
	ChangeLog      string `json:"change_log,omitempty" yaml:"change_log,omitempty"`
	Result         string `json:"result" yaml:"result"`
}

// rewriteRun is a run of tools bucket rewrite.
type rewriteRun struct {
	*rewriteConfig
	process *process
	// bkt checks the leases of the block that is changed.
	bkt  bucket.Bucket
	view *blocklist.View
	edit edits
	dir  string
	// began is the time by the clock of the bucket when the run began, local that of this
	// process.
	began, local time.Time
}

// run rewrites the blocks of --id in their order, up to the first failure.
func (c *rewriteConfig) run(ctx context.Context, s streams) error {
	ids, err := blockIDs(c.ids)
	if err != nil {
		return err
	}
	edit, err := readEdits(&c.deletions, &c.relabel)
	if err != nil {
		return flags.Invalid(err)
	}
	dir := c.tmpDir
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "hindsight-rewrite")
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		r := &rewriteRun{rewriteConfig: c, process: p, bkt: bkt, edit: edit, dir: dir, began: time.Now(), local: time.Now()}
		if r.view, err = poll(ctx, p, bkt, 0); err != nil {
			return err
		}
		// Every block is looked for first, so that a wrong --id changes nothing.
		for _, id := range ids {
			if r.view.Metas[id] == nil {
				return flags.Invalid(fmt.Errorf("--id=%s: the bucket has no such complete block", id))
			}
		}
		if !c.dryRun {
			r.local = time.Now()
			if r.began, err = headrecovery.Now(ctx, bkt); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return fmt.Errorf("make --tmp.dir: %w", err)
		}
		cl := &claims{bkt: bkt}
		if !c.dryRun {
			cl = c.claim.open(s, p, bkt, r.now)
		}
		defer cl.close(ctx)
		r.bkt = cl.bkt
		return r.all(ctx, s, cl, ids)
	})
}

// now is the time by the clock of the bucket. A mark has the time at which it is written, not
// that of the beginning of a run of hours, or its delay would have begun before it.
func (r *rewriteRun) now() time.Time { return r.began.Add(time.Since(r.local)) }

// again lists the bucket once more for a block that no compactor works on now, because one
// may have merged it since.
func (r *rewriteRun) again(ctx context.Context, id ulid.ULID) error {
	if r.dryRun {
		return nil
	}
	v, err := poll(ctx, r.process, r.bkt, 0)
	if err != nil {
		return err
	}
	r.view = v
	m, mark := r.view.Metas[id], r.view.Deletion[id]
	switch {
	case m == nil:
		return fmt.Errorf("block %s was deleted by a compactor or another command: choose the blocks anew from tools bucket ls", id)
	case mark != nil && r.earlier(m) == nil:
		return fmt.Errorf("block %s is marked for deletion (%s): rewrite the block that has its samples now, see tools bucket ls --exclude-delete", id, mark.Details)
	}
	return nil
}

// all rewrites the blocks and prints the list of those that it came to.
func (r *rewriteRun) all(ctx context.Context, s streams, cl *claims, ids []ulid.ULID) error {
	pr := newProgress(s)
	rows := []rewriteRow{}
	var err error
	for i, id := range ids {
		pr.show(i, len(ids), "blocks rewritten")
		var row rewriteRow
		err = cl.with(ctx, id, func(ctx context.Context) (err error) {
			if err = r.again(ctx, id); err == nil {
				row, err = r.one(ctx, r.view.Metas[id])
			}
			return err
		})
		if err != nil {
			row.Block, row.Result = id.String(), "failed"
		}
		rows = append(rows, row)
		if err != nil {
			break
		}
	}
	pr.end()
	out := report{list: rows, header: []string{"BLOCK", "REWRITTEN", "CHANGED SERIES", "REMOVED SERIES", "REMOVED SAMPLES", "CHANGE LOG", "RESULT"}}
	for _, row := range rows {
		out.cells = append(out.cells, []string{
			row.Block, row.Rewritten, fmt.Sprint(row.ChangedSeries), fmt.Sprint(row.RemovedSeries), fmt.Sprint(row.RemovedSamples), row.ChangeLog, row.Result,
		})
	}
	return errors.Join(out.print(s.out, r.output), err)
}
