package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/headblock"
)

// recoverConfig holds the flags of tools recover.
type recoverConfig struct {
	tool    toolConfig
	tsdb    string
	labels  flags.LabelSet
	workDir string
	memory  flags.Bytes
}

func (c *recoverConfig) register(r flags.Registrar) {
	c.tool.register(r)
	r.Flag("tsdb.path", "Data directory of a Prometheus that does not run any more: recover its head. The directory is only read.").
		PlaceHolder("<dir>").StringVar(&c.tsdb)
	r.Flag("label", `External label of that Prometheus, as name="value" (repeatable).`).
		PlaceHolder(`<name>="<value>"`).SetValue(&c.labels)
	r.Flag("work-dir", "Directory for the blocks until they are uploaded; empty means the directory for temporary files.").
		StringVar(&c.workDir)
	r.Flag("memory", "Memory for labels and samples. Less memory means more passes over the log.").
		Default("512MiB").SetValue(&c.memory)
}

// recoverCommand adds the command that turns head logs into blocks.
func recoverCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("recover", "Turns the head of a Prometheus, which is in no block yet, into blocks in the bucket.")
	var c recoverConfig
	c.register(cmd)
	return command{name: toolsGroup + " recover", run: func(ctx context.Context, s streams) error {
		if c.tsdb == "" {
			return flags.Invalid(errors.New("--tsdb.path is missing"))
		}
		if c.labels.Labels().IsEmpty() {
			return flags.Invalid(errors.New(`no external labels: give those of the Prometheus by --label=<name>="<value>"`))
		}
		return c.tool.withBucket(ctx, s, func(ctx context.Context, _ *process, bkt bucket.Bucket) error {
			return c.recoverDir(ctx, s, bkt)
		})
	}}
}

// recoverDir uploads the head in a data directory as blocks.
func (c *recoverConfig) recoverDir(ctx context.Context, s streams, bkt bucket.Bucket) (err error) {
	src, err := headblock.OpenDir(c.tsdb)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dir, err := os.MkdirTemp(c.workDir, "hindsight-recover-")
	if err != nil {
		return fmt.Errorf("make directory for blocks: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	report, err := headblock.Write(ctx, headblock.Config{
		Source: src, Dir: dir, MinTime: src.MinTime(), ExternalLabels: c.labels.Labels(), Memory: c.memory.Int64(), MemoryFlag: "--memory",
	})
	if err != nil {
		return err
	}
	for i, m := range report.Blocks {
		if _, err := block.Upload(ctx, bkt, report.Dirs[i], block.UploadConfig{}); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(s.out, "block %s: %d samples of %d series\n", m.ULID, m.Stats.NumSamples, m.Stats.NumSeries); err != nil {
			return err
		}
	}
	if l := report.Loss; l.Places > 0 {
		_, err = fmt.Fprintf(s.out, "%d damaged places with %d bytes in the log: %s\n", l.Places, l.Bytes, l.First)
	}
	return err
}
