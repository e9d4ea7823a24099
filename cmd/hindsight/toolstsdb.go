package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/headblock"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
	"github.com/hindsight-io/hindsight/pkg/tsdbimport"
)

// tsdbGroup is the group of commands that make blocks.
const tsdbGroup = "tsdb"

// tsdbCommands adds the commands that make blocks: "tools tsdb import".
func tsdbCommands(tools *kingpin.CmdClause) []command {
	group := tools.Command(tsdbGroup, "Makes blocks of samples in other formats.")
	return []command{importCommand(group)}
}

// The formats of --format.
const (
	formatOpenMetrics = "openmetrics"
	formatVictoria    = "victoriametrics"
	formatPrometheus  = "prometheus"
)

// importConfig holds the flags of tools tsdb import.
type importConfig struct {
	tool    toolConfig
	input   string
	format  string
	path    string
	labels  flags.LabelSet
	upload  bool
	verify  bool
	memory  flags.Bytes
	workDir string
	output  string
}

// importCommand adds the command that imports samples.
func importCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("import", "Makes blocks of two hours of OpenMetrics text, of a JSON export of VictoriaMetrics, or of the data directory or a snapshot of a Prometheus, compares them with the input, and uploads them with --upload. The same input gives the same blocks, so that an interrupted run is repeated.")
	var c importConfig
	c.tool.register(cmd)
	cmd.Flag("format", "Format of the input: openmetrics, victoriametrics (the lines of /api/v1/export) or prometheus (a directory).").
		Default(formatOpenMetrics).EnumVar(&c.format, formatOpenMetrics, formatVictoria, formatPrometheus)
	cmd.Flag("path", "Directory for the blocks.").Default("./import").StringVar(&c.path)
	cmd.Flag("label", `External label of the blocks (repeatable). An upload needs one.`).PlaceHolder(`<name>="<value>"`).SetValue(&c.labels)
	cmd.Flag("upload", "Upload the blocks to the bucket of --objstore.config once they are verified.").Default("false").BoolVar(&c.upload)
	cmd.Flag("verify", "Read the input again and compare each sample with the blocks.").Default("true").BoolVar(&c.verify)
	cmd.Flag("memory", "Memory for the labels of all series, and again for samples.").Default("256MB").SetValue(&c.memory)
	cmd.Flag("work-dir", "Directory for the samples on the way, about 10 bytes each; empty means the directory for temporary files.").StringVar(&c.workDir)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	cmd.Arg("input", "A file, or the directory of a Prometheus.").Required().StringVar(&c.input)
	return command{name: toolsGroup + " " + tsdbGroup + " import", run: c.run}
}

// importRow is one block.
type importRow struct {
	Block   string `json:"block" yaml:"block"`
	From    string `json:"from" yaml:"from"`
	Until   string `json:"until" yaml:"until"`
	Series  uint64 `json:"series" yaml:"series"`
	Samples uint64 `json:"samples" yaml:"samples"`
	Result  string `json:"result" yaml:"result"`
}

// run imports, verifies and uploads.
func (c *importConfig) run(ctx context.Context, s streams) error {
	if c.upload && c.labels.Labels().IsEmpty() {
		return flags.Invalid(errors.New(`no --label: an upload needs the external labels of the blocks, such as --label=cluster="eu"`))
	}
	if c.upload {
		return c.tool.withNewBucket(ctx, s, func(ctx context.Context, _ *process, bkt bucket.Bucket) error {
			return c.do(ctx, s, bkt)
		})
	}
	p, err := c.tool.process(s)
	if err != nil {
		return err
	}
	defer p.close()
	return c.do(ctx, s, nil)
}

// do imports; bkt is nil without an upload. Blocks are listed also when a later step fails.
func (c *importConfig) do(ctx context.Context, s streams, bkt bucket.Bucket) (err error) {
	in, done, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	pr := newProgress(s)
	r, err := tsdbimport.Import(ctx, tsdbimport.Config{
		Input: in, Dir: c.path, WorkDir: c.workDir, ExternalLabels: c.labels.Labels(), Memory: c.memory.Int64(), MemoryFlag: "--memory",
		Progress: func(n, total int) { pr.show(n, total, "blocks written") },
	})
	pr.end()
	if err != nil {
		return err
	}
	result := "written"
	if c.verify {
		if err = tsdbimport.Verify(ctx, in, r); err == nil {
			result = "verified"
		}
	}
	rows := []importRow{}
	for i, m := range r.Blocks {
		row := importRow{
			Block: m.ULID.String(), From: timeText(m.MinTime), Until: timeText(m.MaxTime),
			Series: m.Stats.NumSeries, Samples: m.Stats.NumSamples, Result: result,
		}
		if bkt != nil && err == nil {
			pr.show(i, len(r.Blocks), "blocks uploaded")
			if err = headrecovery.Upload(ctx, bkt, m, r.Dirs[i]); err == nil {
				row.Result += ", uploaded"
			}
		}
		rows = append(rows, row)
	}
	pr.end()
	fmt.Fprintf(s.err, "%d samples of %d series read, %d stored, %d had the time of another one of their series\n", r.Read, r.Series, r.Stored, r.Read-min(r.Read, r.Stored))
	out := report{list: rows, header: []string{"BLOCK", "FROM", "UNTIL", "SERIES", "SAMPLES", "RESULT"}}
	for _, row := range rows {
		out.cells = append(out.cells, []string{row.Block, row.From, row.Until, fmt.Sprint(row.Series), fmt.Sprint(row.Samples), row.Result})
	}
	return errors.Join(out.print(s.out, c.output), err)
}

// open returns the input. done removes what it needs on the disk.
func (c *importConfig) open(ctx context.Context) (in tsdbimport.Input, done func() error, err error) {
	none := func() error { return nil }
	info, err := os.Stat(c.input)
	switch {
	case err != nil:
		return nil, none, flags.Invalid(err)
	case info.IsDir() && c.format != formatPrometheus:
		return nil, none, flags.Invalid(fmt.Errorf("%s is a directory; for that of a Prometheus give --format=%s", c.input, formatPrometheus))
	case info.Mode().IsRegular() && info.Size() == 0:
		return nil, none, flags.Invalid(fmt.Errorf("%s is empty", c.input))
	}
	switch c.format {
	case formatOpenMetrics:
		return tsdbimport.OpenMetrics{Path: c.input}, none, nil
	case formatVictoria:
		return tsdbimport.Victoria{Path: c.input}, none, nil
	}
	metas, unreadable, err := localBlocks(c.input)
	if err != nil {
		return nil, none, err
	}
	if unreadable != nil {
		return nil, none, fmt.Errorf("blocks of %s cannot be read; without their directories the others are imported: %w", c.input, unreadable)
	}
	slices.SortFunc(metas, func(a, b *block.Meta) int { return cmp.Compare(a.MinTime, b.MinTime) })
	var blocks tsdbimport.Blocks
	for _, m := range metas {
		blocks.Dirs = append(blocks.Dirs, filepath.Join(c.input, m.ULID.String()))
	}
	head, err := os.MkdirTemp(c.workDir, "hindsight-import-head-")
	if err != nil {
		return nil, none, fmt.Errorf("make work directory: %w", err)
	}
	done = func() error { return os.RemoveAll(head) }
	dirs, err := headBlocks(ctx, c.input, head, c.memory.Int64())
	if err != nil {
		return nil, none, errors.Join(err, done())
	}
	blocks.Dirs = append(blocks.Dirs, dirs...)
	if len(blocks.Dirs) == 0 {
		return nil, none, errors.Join(flags.Invalid(fmt.Errorf("%s has neither blocks nor a log", c.input)), done())
	}
	return blocks, done, nil
}

// headBlocks writes the head of a data directory as blocks into dir. A snapshot has none.
func headBlocks(ctx context.Context, data, dir string, memory int64) (dirs []string, err error) {
	if _, err := os.Stat(filepath.Join(data, "wal")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	src, err := headblock.OpenDir(data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	r, err := headblock.Write(ctx, headblock.Config{
		Source: src, Dir: dir, MinTime: src.MinTime(), Memory: memory, MemoryFlag: "--memory",
	})
	if err != nil {
		return nil, err
	}
	return r.Dirs, nil
}
