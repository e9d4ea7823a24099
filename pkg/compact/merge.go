package compact

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// detailsMerged is the text in the marks of merged blocks.
const detailsMerged = "source of compacted block"

// input is a downloaded block. It is verified while it is read.
type input struct {
	meta *block.Meta
	dir  string
}

// fetch downloads the blocks of a job.
func (c *Compactor) fetch(ctx context.Context, dir string, ids []ulid.ULID) ([]input, error) {
	out := make([]input, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.FetchConcurrency)
	for i, id := range ids {
		g.Go(func() error {
			path := filepath.Join(dir, id.String())
			m, err := block.Download(ctx, c.bkt, id, path, block.DownloadConfig{Concurrency: c.cfg.FilesConcurrency})
			if err != nil {
				return err
			}
			if len(m.Compaction.Sources) == 0 {
				m.Compaction.Sources = []ulid.ULID{id}
			}
			out[i] = input{meta: m, dir: path}
			return nil
		})
	}
	return out, g.Wait()
}

// merge carries out a merge: it publishes the result and then marks the inputs.
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
	out := filepath.Join(dir, "out")
	stats, err := c.mergeInto(ctx, out, inputs)
	if err != nil {
		return fmt.Errorf("merge %d blocks of %s: %w", len(inputs), j.Group, err)
	}
	if stats.block.NumSamples == 0 {
		return c.markAll(ctx, j.Blocks, "block without samples", now)
	}
	if err := describe(out, inputs, j, stats.block, now); err != nil {
		return err
	}
	m, err := c.publish(ctx, out, now)
	if err != nil {
		return err
	}
	c.log.Info("merged blocks", "group", j.Group, "blocks", len(j.Blocks), "block", m.ULID, "series", m.Stats.NumSeries,
		"samples", m.Stats.NumSamples, "mint", m.MinTime, "maxt", m.MaxTime)
	return c.markAll(ctx, j.Blocks, detailsMerged, now)
}

func (c *Compactor) mergeInto(ctx context.Context, out string, inputs []input) (_ mergeStats, err error) {
	defer recoverAs(&err, "merge blocks")
	stats, err := mergeBlocks(ctx, out, inputs, c.cfg.ringLabels(), dedup.NewMerger(c.cfg.dedupFunc()))
	if errors.Is(err, dedup.ErrNotCopies) {
		err = fmt.Errorf("%w: set --deduplication.func=penalty, or take the replica label away", err)
	}
	return stats, err
}

// maxLevel bounds the level of an input, so that the level of the result cannot
// overflow.
const maxLevel = 1 << 20

// describe writes the meta.json of a merged block, with its lineage.
func describe(dir string, inputs []input, j plan.Job, stats tsdb.BlockStats, now time.Time) error {
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return err
	}
	metas := make([]*tsdb.BlockMeta, len(inputs))
	for i, in := range inputs {
		m := in.meta.BlockMeta
		m.Compaction.Level = min(max(m.Compaction.Level, 1), maxLevel)
		metas[i] = &m
	}
	m := &block.Meta{BlockMeta: *tsdb.CompactBlockMetas(id, metas...)}
	m.Version = 1
	m.Stats = stats
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
			return nil // not an object
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
		return nil // impossible: the values were decoded above
	}
	return b
}

// withdrawTimeout bounds the deletion of an upload that failed.
const withdrawTimeout = time.Minute

// publish uploads a block and verifies it before and after. It deletes the objects of
// a failed upload: each try makes another block, so the objects of many tries would
// fill the bucket.
func (c *Compactor) publish(ctx context.Context, dir string, now time.Time) (*block.Meta, error) {
	start := time.Now()
	m, err := block.Upload(ctx, c.bkt, dir, block.UploadConfig{
		Concurrency: c.cfg.FilesConcurrency, Hash: c.cfg.HashFunc == block.HashSHA256,
		Now: func() time.Time { return now.Add(time.Since(start)) },
	})
	if err == nil {
		return m, nil
	}
	local, rerr := block.ReadMetaDir(dir)
	if rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	if derr := block.Delete(dctx, c.bkt, local.ULID); derr != nil {
		c.log.Warn("cannot delete objects of a failed upload", "block", local.ULID, "err", derr)
	}
	return nil, err
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
