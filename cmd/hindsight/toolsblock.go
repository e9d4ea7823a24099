package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/blockstat"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// blockGroup is the group of commands for one block.
const blockGroup = "block"

// blockCommands adds the commands for one block: "tools block analyze".
func blockCommands(tools *kingpin.CmdClause) []command {
	group := tools.Command(blockGroup, "Looks into one block, of the local disk or of a bucket.")
	return []command{analyzeCommand(group)}
}

// analyzeConfig holds the flags of tools block analyze.
type analyzeConfig struct {
	tool   toolConfig
	block  string
	top    int
	output string
}

// analyzeCommand adds the command that says what a block is made of.
func analyzeCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("analyze", "Says which metrics, labels and label values the series, bytes and churn of a block belong to. It reads the index only, by ranges, and no chunks.")
	var c analyzeConfig
	c.tool.register(cmd)
	cmd.Flag("top", "Number of rows of each kind, the largest first; 0 is all.").Default("20").IntVar(&c.top)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	cmd.Arg("block", "The directory of a block, or the ULID of a block in the bucket of --objstore.config.").Required().StringVar(&c.block)
	return command{name: toolsGroup + " " + blockGroup + " analyze", run: c.run}
}

// run reads the index of the block and prints the rows.
func (c *analyzeConfig) run(ctx context.Context, s streams) error {
	if c.top < 0 {
		return flags.Invalid(errors.New("--top must not be negative"))
	}
	report := func(ctx context.Context, bkt bucket.Reader, id ulid.ULID) error {
		m, sizes, err := blockstat.FindBlock(ctx, bkt, id)
		if errors.Is(err, bucket.ErrNotFound) {
			return flags.Invalid(fmt.Errorf("%s is no complete block of the bucket", id))
		}
		if err != nil {
			return err
		}
		r := blockstat.New(blockstat.Config{Metrics: true, Labels: true, Pairs: true})
		if err := r.Add(ctx, bkt, m, sizes); err != nil {
			return err
		}
		return printCosts(s.out, c.output, r.Rows(c.top))
	}
	if info, err := os.Stat(c.block); err == nil && info.IsDir() {
		p, err := c.tool.process(s)
		if err != nil {
			return err
		}
		defer p.close()
		bkt, id, err := blockDirectory(ctx, p, c.block)
		if err != nil {
			return err
		}
		return report(ctx, bkt, id)
	}
	id, ok := block.ParseID(c.block)
	if !ok {
		return flags.Invalid(fmt.Errorf("%s is neither the directory of a block nor a ULID", c.block))
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, _ *process, bkt bucket.Bucket) error {
		return report(ctx, bkt, id)
	})
}

// blockDirectory opens the parent of the directory of a block as a bucket. The process
// closes it.
func blockDirectory(ctx context.Context, p *process, dir string) (bucket.Bucket, ulid.ULID, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, ulid.ULID{}, err
	}
	id, ok := block.ParseID(filepath.Base(path))
	if !ok {
		return nil, ulid.ULID{}, flags.Invalid(fmt.Errorf("%s: the directory of a block is called like its ULID", dir))
	}
	bkt, err := provider.Open(ctx, fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %q}", filepath.Dir(path)), p.logger, nil)
	if err != nil {
		return nil, ulid.ULID{}, err
	}
	p.closers = append(p.closers, bkt.Close)
	return bkt, id, nil
}

// printCosts writes rows of costs.
func printCosts(w io.Writer, form string, rows []blockstat.Row) error {
	r := report{list: rows, header: []string{"BY", "NAME", "VALUES", "SERIES", "CHUNKS", "SAMPLES", "CHUNK BYTES", "INDEX BYTES", "CHURN"}}
	for _, row := range rows {
		values := ""
		if row.By == blockstat.ByLabel {
			values = fmt.Sprint(row.Values)
		}
		r.cells = append(r.cells, []string{
			row.By, row.Name, values, fmt.Sprint(row.Series), fmt.Sprint(row.Chunks), fmt.Sprint(row.Samples),
			fmt.Sprint(row.ChunkBytes), fmt.Sprint(row.IndexBytes), fmt.Sprintf("%.1f", row.Churn),
		})
	}
	return r.print(w, form)
}
