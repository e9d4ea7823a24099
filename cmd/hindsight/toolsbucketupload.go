package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/blockstat"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/shipper"
)

// uploadState is the state file of the shipper of this command. A run removes it: it is
// about one bucket and one set of labels, and the next run may have others.
const uploadState = "hindsight.upload-blocks.json"

// uploadConfig holds the flags of tools bucket upload-blocks.
type uploadConfig struct {
	tool        toolConfig
	path        string
	labels      flags.LabelSet
	compacted   bool
	concurrency int
	columns     bool
	readBack    bool
	workDir     string
	output      string
}

// uploadCommand adds the command that uploads blocks of a directory.
func uploadCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("upload-blocks", "Uploads the blocks of a directory with external labels, the oldest first, and verifies them in the bucket. Blocks that the bucket has are left alone. An interrupted run is continued by the next. Do not run it beside a sidecar of the same directory.")
	var c uploadConfig
	c.tool.register(cmd)
	cmd.Flag("path", "Directory with the blocks, such as the data directory of a Prometheus.").Default("./data").StringVar(&c.path)
	cmd.Flag("label", `External label of the blocks (repeatable; at least one).`).PlaceHolder(`<name>="<value>"`).SetValue(&c.labels)
	cmd.Flag("shipper.upload-compacted", "Upload blocks that Prometheus has compacted, too, unless the bucket has their samples.").Default("false").BoolVar(&c.compacted)
	cmd.Flag("shipper.upload-concurrency", "Number of files of a block that are uploaded at one time.").Default("5").IntVar(&c.concurrency)
	cmd.Flag("shipper.columns", "Upload the float chunks of each raw block of at most a day as columns too, so that store gateways read few series with few requests; half to all of the bytes of the block again.").Default("true").BoolVar(&c.columns)
	cmd.Flag("read-back", "Download each uploaded block again and check all of it. Without it, the sizes of its files are compared; the content is checked before the upload in any case.").Default("false").BoolVar(&c.readBack)
	cmd.Flag("work-dir", "Directory for one block at a time with --read-back; empty means the directory for temporary files.").StringVar(&c.workDir)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "upload-blocks", run: c.run}
}

// uploadRow is one block of the directory.
type uploadRow struct {
	Block   string `json:"block" yaml:"block"`
	Level   int    `json:"level" yaml:"level"`
	Series  uint64 `json:"series" yaml:"series"`
	Samples uint64 `json:"samples" yaml:"samples"`
	Result  string `json:"result" yaml:"result"`
}

// run ships the blocks and lists all of the directory with what became of them.
func (c *uploadConfig) run(ctx context.Context, s streams) error {
	if c.labels.Labels().IsEmpty() {
		return flags.Invalid(errors.New(`no --label: give the external labels of the blocks, such as --label=cluster="eu"`))
	}
	// The shipper reports the blocks that cannot be read.
	metas, _, err := localBlocks(c.path)
	if err != nil {
		return err
	}
	return c.tool.withNewBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		present, err := c.present(ctx, bkt, metas)
		if err != nil {
			return err
		}
		state := filepath.Join(c.path, uploadState)
		if err := os.Remove(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		pr := newProgress(s)
		pr.show(len(present), len(metas), "blocks in the bucket")
		ship := shipper.New(shipper.Config{
			Dir: c.path, StateFile: uploadState, Source: block.SourceBucketUpload, UploadCompacted: c.compacted,
			Concurrency: c.concurrency, Hash: true, Columns: c.columns,
		}, shipper.Deps{
			Bucket: bkt, Logger: p.logger, Metrics: shipper.NewMetrics(p.registry),
			Labels: func() labels.Labels { return c.labels.Labels() },
		})
		_, err = ship.Sync(ctx)
		pr.end()
		if rerr := os.Remove(state); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		rows := []uploadRow{}
		for i, m := range metas {
			pr.show(i, len(metas), "blocks verified")
			row, verr := c.verify(ctx, bkt, m, present[m.ULID])
			rows = append(rows, row)
			err = errors.Join(err, verr)
		}
		pr.end()
		r := report{list: rows, header: []string{"BLOCK", "LEVEL", "SERIES", "SAMPLES", "RESULT"}}
		for _, row := range rows {
			r.cells = append(r.cells, []string{row.Block, fmt.Sprint(row.Level), fmt.Sprint(row.Series), fmt.Sprint(row.Samples), row.Result})
		}
		return errors.Join(r.print(s.out, c.output), err)
	})
}

// localBlocks returns the blocks of a directory in order of ULID. unreadable joins an error
// for each block whose meta.json cannot be read.
func localBlocks(dir string) (out []*block.Meta, unreadable, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, flags.Invalid(fmt.Errorf("read the directory of blocks: %w", err))
	}
	var errs []error
	for _, e := range entries {
		if _, ok := block.ParseID(e.Name()); !ok {
			continue
		}
		m, err := block.ReadMetaDir(filepath.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, m)
	}
	return out, errors.Join(errs...), nil
}

// present returns the blocks that the bucket has.
func (c *uploadConfig) present(ctx context.Context, bkt bucket.Reader, metas []*block.Meta) (map[ulid.ULID]bool, error) {
	out := map[ulid.ULID]bool{}
	for _, m := range metas {
		_, err := bkt.Stat(ctx, block.Path(m.ULID, block.MetaFile))
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return nil, fmt.Errorf("look for block %s: %w", m.ULID, err)
		}
		if err == nil {
			out[m.ULID] = true
		}
	}
	return out, nil
}

// verify looks at a block in the bucket after the upload.
func (c *uploadConfig) verify(ctx context.Context, bkt bucket.Reader, local *block.Meta, before bool) (uploadRow, error) {
	row := uploadRow{Block: local.ULID.String(), Level: local.Compaction.Level, Series: local.Stats.NumSeries, Samples: local.Stats.NumSamples}
	m, sizes, err := blockstat.FindBlock(ctx, bkt, local.ULID)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		row.Result = "not uploaded"
		if local.Compaction.Level > 1 && !c.compacted {
			row.Result = "left out: it was compacted, see --shipper.upload-compacted"
		}
		return row, nil
	case err != nil:
		row.Result = "failed"
		return row, fmt.Errorf("verify block %s: %w", local.ULID, err)
	case before:
		row.Result = "present"
		return row, nil
	}
	found := bucketadmin.CheckSizes(m, sizes)
	if len(found) == 0 && c.readBack {
		if found, err = c.download(ctx, bkt, m); err != nil {
			row.Result = "failed"
			return row, fmt.Errorf("read back block %s: %w", local.ULID, err)
		}
	}
	if len(found) > 0 {
		row.Result = "damaged"
		return row, fmt.Errorf("block %s is damaged in the bucket: %s", local.ULID, found[0].Details)
	}
	row.Result = either(c.readBack, "uploaded, and read back", "uploaded")
	return row, nil
}

// download checks all of a block of the bucket.
func (c *uploadConfig) download(ctx context.Context, bkt bucket.Reader, m *block.Meta) (found []bucketadmin.Finding, err error) {
	dir, err := os.MkdirTemp(c.workDir, "hindsight-upload-")
	if err != nil {
		return nil, fmt.Errorf("make work directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return bucketadmin.CheckBlock(ctx, bkt, m, dir)
}
