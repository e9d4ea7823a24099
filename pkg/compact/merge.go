package compact

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
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

// fetch downloads the blocks of a job that rewrites.
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

// readMetas reads the meta.json of the blocks of a job.
func (c *Compactor) readMetas(ctx context.Context, ids []ulid.ULID) ([]input, error) {
	out := make([]input, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.FetchConcurrency)
	for i, id := range ids {
		g.Go(func() error {
			m, err := block.ReadMeta(ctx, c.bkt, id)
			if err != nil {
				return err
			}
			if len(m.Compaction.Sources) == 0 {
				m.Compaction.Sources = []ulid.ULID{id}
			}
			out[i] = input{meta: m}
			return nil
		})
	}
	return out, g.Wait()
}

// merge carries out a merge: it publishes the result, marks the inputs, and publishes the
// coarser block that it made beside the result.
func (c *Compactor) merge(ctx context.Context, j plan.Job, now func() time.Time) error {
	dir, done, err := c.workDir(j)
	if err != nil {
		return err
	}
	defer done()
	inputs, err := c.readMetas(ctx, j.Blocks)
	if err != nil {
		return err
	}
	sec := c.newSecond(ctx, dir, j, inputs, now)
	defer c.abandonSecond(ctx, sec)
	blocks, err := c.mergeInto(ctx, inputs, j, c.newPublications(ctx, dir, now), sec.beside)
	if err != nil {
		return fmt.Errorf("merge %d blocks of %s: %w", len(inputs), j.Group, err)
	}
	if len(blocks) == 0 {
		return c.markAll(ctx, j.Blocks, "block without samples", now)
	}
	for _, m := range blocks {
		c.log.Info("merged blocks", "group", j.Group, "blocks", len(j.Blocks), "block", m.ULID, "shards", len(blocks), "series", m.Stats.NumSeries,
			"samples", m.Stats.NumSamples, "mint", m.MinTime, "maxt", m.MaxTime)
	}
	if err := c.markAll(ctx, j.Blocks, detailsMerged, now); err != nil {
		return err
	}
	return c.publishSecond(ctx, sec, blocks[0])
}

// mergeInto merges the inputs and publishes the result: one block, or the shards of one,
// none of samples. Segments are uploaded while it merges; all meta.json are written in
// the end, after the results were verified. It deletes the objects of a failed merge.
func (c *Compactor) mergeInto(ctx context.Context, inputs []input, j plan.Job, pubs *publications, beside *blockmerge.Beside) (blocks []*block.Meta, err error) {
	defer func() {
		if err != nil || len(blocks) == 0 {
			blocks = nil
			c.abandon(ctx, pubs.all, err)
		}
	}()
	defer recoverAs(&err, "merge blocks")
	check := c.checker(inputs, blockcheck.Config{})
	results, err := c.mergeBlocks(ctx, inputs, check, pubs.create, beside)
	out := pubs.all
	switch {
	case errors.Is(err, dedup.ErrNotCopies):
		return nil, fmt.Errorf("%w: set --deduplication.func=penalty, or take the replica label away", err)
	case err != nil:
		return nil, err
	case !slices.ContainsFunc(results, func(r blockmerge.Result) bool { return r.Stats.NumSamples > 0 }):
		return nil, check.Verify(ctx, c.bkt, nil)
	}
	made := make([]blockcheck.Result, 0, len(results))
	for i, res := range results {
		m := describe(out[i].ID(), inputs, j, res.Stats)
		if err := stampLease(ctx, m); err != nil {
			return nil, err
		}
		shard := block.Shard{}
		if len(out) > 1 {
			shard = block.Shard{Set: out[0].ID(), Index: i, Count: len(out)}
			// A program that knows no shards, such as Thanos, takes a block whose sources
			// another one has for a copy of it, and deletes it.
			m.Compaction.Sources = append(m.Compaction.Sources, m.ULID)
			slices.SortFunc(m.Compaction.Sources, ulid.ULID.Compare)
		}
		m.SetShard(shard)
		m.SetChecked(check.DecodesSources())
		if res.Stats.NumSamples == 0 {
			if err := writeEmptyIndex(ctx, pubs.path(i)); err != nil {
				return nil, err
			}
		}
		if err := out[i].Upload(ctx, m, res.ChunkMaxSize); err != nil {
			return nil, err
		}
		blocks = append(blocks, m)
		if res.Stats.NumSamples > 0 {
			made = append(made, blockcheck.Result{Meta: m, Dir: pubs.path(i), ChunkMaxSize: res.ChunkMaxSize})
		}
	}
	if err := check.Verify(ctx, c.bkt, made); err != nil {
		return nil, err
	}
	for i, m := range blocks {
		if err := out[i].Finish(ctx, m); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

// publications are the results of a job while they are made.
type publications struct {
	ctx context.Context
	bkt bucket.Bucket
	dir string
	now func() time.Time
	cfg block.UploadConfig
	all []*block.Publication
}

func (c *Compactor) newPublications(ctx context.Context, dir string, now func() time.Time) *publications {
	return &publications{ctx: ctx, bkt: c.bkt, dir: dir, now: now, cfg: c.uploadConfig(now)}
}

// path is the directory of one of them.
func (p *publications) path(number int) string {
	return filepath.Join(p.dir, fmt.Sprintf("out-%d", number))
}

// create begins the next one.
func (p *publications) create(number, _ int) blockmerge.Output {
	id := ulid.MustNew(ulid.Timestamp(p.now()), rand.Reader) // crypto/rand never fails
	to := p.path(number)
	p.all = append(p.all, block.Publish(p.ctx, p.bkt, to, id, p.cfg))
	return blockmerge.Output{Dir: to, Segments: p.all[number]}
}

// uploadConfig is that of a new block.
func (c *Compactor) uploadConfig(now func() time.Time) block.UploadConfig {
	return block.UploadConfig{
		Concurrency: c.cfg.FilesConcurrency, Hash: c.cfg.HashFunc == block.HashSHA256,
		Now: now,
	}
}

// abandon deletes the objects of failed publications: each try makes other blocks, so
// the objects of many tries would fill the bucket. failure is the error of the try.
func (c *Compactor) abandon(ctx context.Context, out []*block.Publication, failure error) {
	if len(out) == 0 {
		return
	}
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	for _, p := range out {
		p.Stop() // also when their objects stay
	}
	if err := mayWithdraw(dctx, failure); err != nil {
		c.log.Warn("objects of a failed upload left", "block", out[0].ID(), "err", err)
		return
	}
	for _, p := range out {
		if err := p.Abandon(dctx); err != nil {
			c.log.Warn("cannot delete objects of a failed upload", "block", p.ID(), "err", err)
		}
	}
}

// maxLevel bounds the level of an input, so that the level of the result cannot
// overflow.
const maxLevel = 1 << 20

// describe returns the meta.json of a merged block, with its lineage.
func describe(id ulid.ULID, inputs []input, j plan.Job, stats tsdb.BlockStats) *block.Meta {
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
	m.SetShard(block.Shard{}) // the inputs may be shards
	m.SetChecked(false)
	return m
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

// mayWithdraw returns an error if the objects of a failed upload have to stay: if
// meta.json may be written, for instance because the answer was lost. Another compactor
// that takes over the group then sees the block, and may mark and delete its sources at
// any time, also after a check of the lease. The objects that stay are a partial upload, or
// a block that the next plan takes for the result.
func mayWithdraw(ctx context.Context, failure error) error {
	if errors.Is(failure, block.ErrMayBePublished) {
		return failure
	}
	return checkLease(ctx)
}

// publish uploads a block and verifies it before and after. It deletes the objects of
// a failed upload: each try makes another block, so the objects of many tries would
// fill the bucket.
func (c *Compactor) publish(ctx context.Context, dir string, now func() time.Time) (*block.Meta, error) {
	if err := stampDir(ctx, dir); err != nil {
		return nil, err
	}
	if err := checkLease(ctx); err != nil {
		return nil, err
	}
	m, err := block.Upload(ctx, c.bkt, dir, c.uploadConfig(now))
	if err == nil {
		return m, nil
	}
	local, rerr := block.ReadMetaDir(dir)
	if rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	if werr := mayWithdraw(dctx, err); werr != nil {
		c.log.Warn("objects of a failed upload left", "block", local.ULID, "err", werr)
		return nil, err
	}
	if derr := block.Delete(dctx, c.bkt, local.ULID); derr != nil {
		c.log.Warn("cannot delete objects of a failed upload", "block", local.ULID, "err", derr)
	}
	return nil, err
}

// markAll marks blocks for deletion, each with the time of its mark: with that of the beginning
// of the job, the delay before the deletion would have begun before a long merge.
func (c *Compactor) markAll(ctx context.Context, ids []ulid.ULID, details string, now func() time.Time) error {
	for _, id := range ids {
		marked, err := block.MarkDeletion(ctx, c.bkt, id, details, now())
		if err != nil {
			return err
		}
		if marked {
			c.metrics.marked.WithLabelValues(block.DeletionMarkFile, "").Inc()
		}
	}
	return nil
}
