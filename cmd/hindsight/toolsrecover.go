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
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/headblock"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// recoverConfig holds the flags of tools recover.
type recoverConfig struct {
	tool         toolConfig
	tsdb         string
	labels       flags.LabelSet
	source       string
	generation   string
	olderThan    flags.Duration
	dryRun, yes  bool
	output       string
	workDir      string
	memory, disk flags.Bytes
}

func (c *recoverConfig) register(r flags.Registrar) {
	c.tool.register(r)
	r.Flag("source", "Recover only the heads of this source, as the list shows it. A damaged head is removed only if it is named so.").StringVar(&c.source)
	r.Flag("generation", "Recover only this generation of a source.").StringVar(&c.generation)
	r.Flag("older-than", "Leave a head alone while its newest object is younger: its source may live.").Default("1h").SetValue(&c.olderThan)
	r.Flag("yes", "Recover the heads, and remove them from the bucket when blocks have their samples. Without it, the command only lists.").
		Default("false").BoolVar(&c.yes)
	r.Flag("dry-run", "Only list the heads; with --tsdb.path, make the blocks but do not upload them.").Default("false").BoolVar(&c.dryRun)
	r.Flag("output", "Form of the list: table, json or yaml.").Default("table").EnumVar(&c.output, "table", "json", "yaml")
	r.Flag("tsdb.path", "Recover the head in the data directory of a Prometheus that does not run any more, instead of heads in the bucket. The directory is only read.").
		PlaceHolder("<dir>").StringVar(&c.tsdb)
	r.Flag("label", `External label of the Prometheus of --tsdb.path, as name="value" (repeatable).`).
		PlaceHolder(`<name>="<value>"`).SetValue(&c.labels)
	r.Flag("work-dir", "Directory for downloads and blocks until they are uploaded; empty means the directory for temporary files.").
		StringVar(&c.workDir)
	r.Flag("memory", "Memory for labels and samples. Less memory means more passes over the log; the labels of all series must fit.").
		Default("512MB").SetValue(&c.memory)
	r.Flag("disk", "Largest head that is downloaded; its blocks take about as much disk again. 0 means no limit.").
		Default("0").SetValue(&c.disk)
}

// validate checks the values together.
func (c *recoverConfig) validate() error {
	switch {
	case c.tsdb == "" && !c.labels.Labels().IsEmpty():
		return flags.Invalid(errors.New("--label is for --tsdb.path; heads in the bucket have their labels"))
	case c.tsdb != "" && c.labels.Labels().IsEmpty():
		return flags.Invalid(errors.New(`no external labels: give those of the Prometheus by --label=<name>="<value>"`))
	case c.tsdb != "" && (c.source != "" || c.generation != ""):
		return flags.Invalid(errors.New("--source and --generation are for heads in the bucket, not for --tsdb.path"))
	case c.dryRun && c.yes:
		return flags.Invalid(errors.New("--dry-run and --yes exclude each other"))
	}
	return nil
}

// recoverCommand adds the command that turns head logs into blocks.
func recoverCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("recover", "Lists the head logs that sidecars shipped to the bucket, and turns those of sources that are gone into blocks; or the head in the data directory of a dead Prometheus.")
	var c recoverConfig
	c.register(cmd)
	return command{name: toolsGroup + " recover", run: func(ctx context.Context, s streams) error {
		if err := c.validate(); err != nil {
			return err
		}
		return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
			poller := blocklist.NewPoller(bkt, blocklist.Config{Logger: p.logger})
			view, err := poller.Poll(ctx)
			if err != nil {
				return fmt.Errorf("list the blocks of the bucket: %w", err)
			}
			r := &recoverRun{recoverConfig: c, s: s, bkt: bkt, metas: view.Metas}
			r.config = headrecovery.Config{
				Bucket: bkt, WorkDir: c.workDir, Memory: c.memory.Int64(), MemoryFlag: "--memory",
				Disk: c.disk.Int64(), DiskFlag: "--disk", Progress: r.progress, Logger: p.logger,
			}
			if c.tsdb != "" {
				return r.dir(ctx)
			}
			return r.heads(ctx)
		})
	}}
}

// recoverRun is one run of tools recover.
type recoverRun struct {
	recoverConfig
	s      streams
	bkt    bucket.Bucket
	metas  map[ulid.ULID]*block.Meta
	config headrecovery.Config
	rows   []recoverRow
	shown  bool // a line of progress is on the terminal
}

// heads lists the heads of the bucket and recovers those that the flags name.
func (r *recoverRun) heads(ctx context.Context) error {
	now := time.Now()
	if r.yes {
		var err error
		if now, err = headrecovery.Now(ctx, r.bkt); err != nil {
			return err
		}
	}
	heads, err := headrecovery.List(ctx, r.bkt, r.metas, now, r.olderThan.Duration())
	if err != nil {
		return err
	}
	var errs []error
	due := 0
	for _, h := range heads {
		if r.source != "" && r.source != h.Source || r.generation != "" && r.generation != h.ID.String() {
			continue
		}
		row := rowOf(h, now)
		if r.due(h) {
			due++
			if r.yes {
				if err := r.one(ctx, h, &row); err != nil {
					errs = append(errs, err)
				}
			}
		}
		r.rows = append(r.rows, row)
		if ctx.Err() != nil {
			break
		}
	}
	r.endProgress()
	if err := r.print(); err != nil {
		return err
	}
	if due > 0 && !r.yes && !r.dryRun {
		fmt.Fprintf(r.s.err, "nothing was changed: with --yes, the command recovers %d of these heads\n", due)
	}
	if len(r.rows) == 0 && (r.source != "" || r.generation != "") {
		return flags.Invalid(errors.New("no head in the bucket is of this --source and --generation"))
	}
	return errors.Join(errs...)
}

// due reports whether the flags ask for the recovery of a head.
func (r *recoverRun) due(h *headrecovery.Head) bool {
	switch h.State {
	case headrecovery.Lost, headrecovery.InBlocks, headrecovery.Recovered:
		return true
	case headrecovery.Damaged:
		return r.source != ""
	}
	return false
}

// one recovers one head. A head that another process has removed meanwhile is no error.
func (r *recoverRun) one(ctx context.Context, h *headrecovery.Head, row *recoverRow) error {
	res, err := headrecovery.Recover(ctx, r.config, h, r.metas)
	row.took(res)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		row.Result = "removed by another process"
		return nil
	case err != nil:
		row.Result = "failed"
		return err
	}
	return nil
}

// dir uploads the head in a data directory as blocks.
func (r *recoverRun) dir(ctx context.Context) (err error) {
	src, err := headblock.OpenDir(r.tsdb)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dir, err := os.MkdirTemp(r.workDir, "hindsight-recover-")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lset := r.labels.Labels()
	report, err := headblock.Write(ctx, headblock.Config{
		Source: src, Dir: dir, MinTime: src.MinTime(), Covered: r.covered(), ExternalLabels: lset,
		Memory: r.memory.Int64(), MemoryFlag: "--memory", Progress: r.progress,
	})
	r.endProgress()
	if err != nil {
		return err
	}
	row := recoverRow{Source: headlog.Source(lset), Labels: lset.Map(), LogBytes: src.Size(), State: string(headrecovery.Lost)}
	row.took(&headrecovery.Result{Blocks: report.Blocks, Loss: report.Loss, UnknownSamples: report.UnknownSamples})
	for i, m := range report.Blocks {
		row.times(m.MinTime, m.MaxTime-1)
		if r.dryRun {
			row.Result = "not uploaded"
			continue
		}
		if err := headrecovery.Upload(ctx, r.bkt, m, report.Dirs[i]); err != nil {
			return err
		}
	}
	if len(report.Blocks) == 0 {
		row.State, row.Result = string(headrecovery.InBlocks), ""
	}
	r.rows = append(r.rows, row)
	if err := r.print(); err != nil {
		return err
	}
	return r.warnOfBlocks()
}

// covered returns the times that blocks of the source in the bucket have.
func (r *recoverRun) covered() []tombstones.Interval {
	return headrecovery.Covered(r.metas, r.labels.Labels())
}

// warnOfBlocks names the blocks of the data directory that are not in the bucket: the
// head is not all that a dead Prometheus leaves.
func (r *recoverRun) warnOfBlocks() error {
	entries, err := os.ReadDir(r.tsdb)
	if err != nil {
		return err
	}
	known := map[ulid.ULID]bool{}
	for id, m := range r.metas {
		known[id] = true
		for _, src := range m.Compaction.Sources {
			known[src] = true
		}
	}
	for _, e := range entries {
		id, ok := block.ParseID(e.Name())
		if !ok || known[id] {
			continue
		}
		if _, err := block.ReadMetaDir(filepath.Join(r.tsdb, e.Name())); err == nil {
			fmt.Fprintf(r.s.err, "block %s of the directory is not in the bucket: run the sidecar on the directory to ship it\n", id)
		}
	}
	return nil
}
