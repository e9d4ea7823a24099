package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// markConfig holds the flags of tools bucket mark.
type markConfig struct {
	tool    toolConfig
	claim   claimConfig
	ids     []string
	marker  string
	details string
	remove  bool
	output  string
}

// markRow is the result for one block.
type markRow struct {
	Block  string `json:"block" yaml:"block"`
	Marker string `json:"marker" yaml:"marker"`
	Result string `json:"result" yaml:"result"`
}

// markCommand adds the command that writes and removes marks.
func markCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("mark", "Writes a mark of the named blocks, or removes it. A block that is marked for deletion can be unmarked until the compactor or tools bucket cleanup deletes it. An existing mark is kept as it is.")
	var c markConfig
	c.tool.register(cmd)
	c.claim.register(cmd)
	cmd.Flag("id", "ULID of a block (repeatable).").Required().StringsVar(&c.ids)
	cmd.Flag("marker", "The mark: deletion-mark.json, no-compact-mark.json or no-downsample-mark.json.").Required().
		EnumVar(&c.marker, block.DeletionMarkFile, block.NoCompactMarkFile, block.NoDownsampleMarkFile)
	cmd.Flag("details", "Text that the mark holds: why it was written. Required unless --remove is given.").StringVar(&c.details)
	cmd.Flag("remove", "Remove the mark.").Default("false").BoolVar(&c.remove)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "mark", run: c.run}
}

// run marks or unmarks the blocks of --id, in their order, up to the first failure.
func (c *markConfig) run(ctx context.Context, s streams) error {
	ids, err := blockIDs(c.ids)
	if err != nil {
		return err
	}
	if c.details == "" && !c.remove {
		return flags.Invalid(errors.New("no --details: say why the blocks are marked"))
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		// Every block is looked for first, so that a wrong --id changes nothing.
		for _, id := range ids {
			if err := requireBlock(ctx, bkt, id); err != nil {
				return err
			}
		}
		// The age of a mark is measured by the clock of the bucket.
		began, err := headrecovery.Now(ctx, bkt)
		local := time.Now()
		switch {
		case c.remove && errors.Is(err, bucket.ErrFull):
			began, c.claim.leases = local, claimNone // a lease needs writes
		case err != nil:
			return err
		}
		now := func() time.Time { return began.Add(time.Since(local)) }
		cl := c.claim.open(s, p, bkt, now)
		defer cl.close(ctx)
		r := report{header: []string{"BLOCK", "MARKER", "RESULT"}}
		rows := []markRow{}
		for _, id := range ids {
			var row markRow
			err = cl.with(ctx, id, func(ctx context.Context) (err error) {
				row, err = c.one(ctx, cl.bkt, id, now())
				return err
			})
			if err != nil {
				break
			}
			rows = append(rows, row)
			r.cells = append(r.cells, []string{row.Block, row.Marker, row.Result})
		}
		r.list = rows
		return errors.Join(r.print(s.out, c.output), err)
	})
}

// requireBlock returns an error if the bucket has no object of the block. A block with a
// damaged meta.json counts, because a mark is how it is removed.
func requireBlock(ctx context.Context, bkt bucket.Reader, id ulid.ULID) error {
	found := errors.New("found")
	err := bkt.List(ctx, id.String(), func(bucket.Object) error { return found })
	switch {
	case errors.Is(err, found):
		return nil
	case err == nil || errors.Is(err, bucket.ErrNotFound):
		return flags.Invalid(fmt.Errorf("--id=%s: the bucket has no such block", id))
	}
	return fmt.Errorf("look for block %s: %w", id, err)
}

// one writes or removes the mark of one block.
func (c *markConfig) one(ctx context.Context, bkt bucket.Bucket, id ulid.ULID, now time.Time) (markRow, error) {
	row := markRow{Block: id.String(), Marker: c.marker}
	if c.remove {
		name := block.Path(id, c.marker)
		_, err := bkt.Stat(ctx, name)
		if errors.Is(err, bucket.ErrNotFound) {
			row.Result = "not marked"
			return row, nil
		}
		if err != nil {
			return row, fmt.Errorf("look at %s: %w", name, err)
		}
		if err := bkt.Delete(ctx, name); err != nil {
			return row, fmt.Errorf("remove %s: %w", name, err)
		}
		// A tool that takes no lease may be deleting the block.
		if err := requireBlock(ctx, bkt, id); err != nil {
			return row, fmt.Errorf("the block was deleted while its mark was removed: %w", err)
		}
		row.Result = "removed"
		return row, nil
	}
	var written bool
	var err error
	cause := block.Cause{Reason: block.MarkManual, Details: c.details}
	switch c.marker {
	case block.DeletionMarkFile:
		written, err = block.MarkDeletion(ctx, bkt, id, c.details, now)
	case block.NoCompactMarkFile:
		written, err = block.MarkNoCompact(ctx, bkt, id, cause, now)
	default:
		written, err = block.MarkNoDownsample(ctx, bkt, id, cause, now)
	}
	if row.Result = "already marked"; written {
		row.Result = "marked"
	}
	return row, err
}
