package compact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// detailsMerged is the text in the marks of merged blocks.
const detailsMerged = "source of compacted block"

// input is a block that was downloaded and verified.
type input struct {
	meta *block.Meta
	dir  string
}

// fetch downloads and verifies the blocks of a job.
func (c *Compactor) fetch(ctx context.Context, dir string, ids []ulid.ULID) ([]input, error) {
	out := make([]input, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.FetchConcurrency)
	for i, id := range ids {
		g.Go(func() error {
			path := filepath.Join(dir, id.String())
			if _, err := block.Download(ctx, c.bkt, id, path, block.DownloadConfig{Concurrency: c.cfg.FilesConcurrency}); err != nil {
				return err
			}
			report, err := block.Verify(ctx, path)
			if err != nil {
				return err
			}
			if report.Flawed() {
				return &block.CorruptError{ID: id, Reason: reasonChunkTimes, Err: errors.New(report.Example)}
			}
			out[i] = input{meta: report.Meta, dir: path}
			return nil
		})
	}
	return out, g.Wait()
}

// reasonChunkTimes says that chunks of a series are out of order, or outside of
// their block.
const reasonChunkTimes block.Reason = "chunk-times"

// merge carries out a merge: the result is published, then its inputs are
// marked.
func (c *Compactor) merge(ctx context.Context, j plan.Job, now time.Time) error {
	dir, done, err := c.workDir(j)
	if err != nil {
		return err
	}
	defer done()
	inputs, err := c.fetch(ctx, dir, j.Blocks)
	if err != nil {
		return err
	}
	out, err := c.mergeBlocks(ctx, filepath.Join(dir, "out"), inputs, j)
	if err != nil {
		return err
	}
	if out == "" {
		return c.markAll(ctx, j.Blocks, "block without samples", now)
	}
	m, err := c.publish(ctx, out, now)
	if err != nil {
		return err
	}
	c.log.Info("merged blocks", "group", j.Group, "inputs", len(j.Blocks), "result", m.ULID, "series", m.Stats.NumSeries,
		"samples", m.Stats.NumSamples, "mint", m.MinTime, "maxt", m.MaxTime, "reason", j.Reason)
	return c.markAll(ctx, j.Blocks, detailsMerged, now)
}

// mergeBlocks writes the merged block and returns its directory, "" when there
// is not one sample.
func (c *Compactor) mergeBlocks(ctx context.Context, dest string, inputs []input, j plan.Job) (_ string, err error) {
	defer recoverAs(&err, "merge blocks")
	if err := os.MkdirAll(dest, 0o777); err != nil {
		return "", err
	}
	merger := newMerger(c.cfg.DedupFunc, j.Replicas)
	comp, err := tsdb.NewLeveledCompactorWithOptions(ctx, nil, c.log.With("job", "merge"), c.policy.Ranges, aggr.NewPool(), tsdb.LeveledCompactorOptions{
		MergeFunc: merger.merge, EnableOverlappingCompaction: true,
	})
	if err != nil {
		return "", err
	}
	dirs := make([]string, len(inputs))
	var samples uint64
	for i, in := range inputs {
		dirs[i] = in.dir
		samples += in.meta.Stats.NumSamples
	}
	ids, err := comp.Compact(dest, dirs, nil)
	if err != nil {
		return "", fmt.Errorf("merge %d blocks of %s: %w", len(inputs), j.Group, err)
	}
	if err := merger.judge(1); err != nil {
		return "", err
	}
	if len(ids) == 0 {
		if samples > 0 {
			return "", fmt.Errorf("merge %d blocks of %s: nothing is left of %d samples", len(inputs), j.Group, samples)
		}
		return "", nil
	}
	out := filepath.Join(dest, ids[0].String())
	return out, c.describe(out, inputs, j, samples-merger.in+merger.kept)
}

// describe completes the meta.json of a merged block. samples is how many it
// must have.
func (c *Compactor) describe(dir string, inputs []input, j plan.Job, samples uint64) error {
	m, err := block.ReadMetaDir(dir)
	if err != nil {
		return err
	}
	if m.Stats.NumSamples != samples {
		return fmt.Errorf("merge %d blocks of %s: the result has %d samples instead of %d", len(inputs), j.Group, m.Stats.NumSamples, samples)
	}
	m.Thanos = block.Thanos{
		Version: 1, Labels: j.Group.Labels.Map(), Downsample: block.Downsample{Resolution: j.Resolution},
		Source: block.SourceCompactor, Extensions: commonExtensions(inputs),
	}
	return block.WriteMetaDir(dir, m)
}

// commonExtensions keeps the keys that all inputs with extensions have, with
// the value of the first.
func commonExtensions(inputs []input) json.RawMessage {
	var common map[string]json.RawMessage
	for _, in := range inputs {
		raw := in.meta.Thanos.Extensions
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		var ext map[string]json.RawMessage
		if json.Unmarshal(raw, &ext) != nil {
			return nil // not an object, so there are no keys to keep
		}
		if common == nil {
			common = ext
			continue
		}
		for k := range common {
			if _, ok := ext[k]; !ok {
				delete(common, k)
			}
		}
	}
	if len(common) == 0 {
		return nil
	}
	b, err := json.Marshal(common)
	if err != nil {
		return nil // cannot be: the values were just decoded
	}
	return b
}

// publish uploads a block, which verifies it before and after.
func (c *Compactor) publish(ctx context.Context, dir string, now time.Time) (*block.Meta, error) {
	start := time.Now()
	return block.Upload(ctx, c.bkt, dir, block.UploadConfig{
		Concurrency: c.cfg.FilesConcurrency, Hash: c.cfg.HashFunc == block.HashSHA256,
		Now: func() time.Time { return now.Add(time.Since(start)) },
	})
}

// markAll marks blocks for deletion.
func (c *Compactor) markAll(ctx context.Context, ids []ulid.ULID, details string, now time.Time) error {
	for _, id := range ids {
		marked, err := block.MarkDeletion(ctx, c.bkt, id, details, now)
		if err != nil {
			return err
		}
		if marked {
			c.metrics.marked.WithLabelValues(block.DeletionMarkFile, "").Inc()
		}
	}
	return nil
}
