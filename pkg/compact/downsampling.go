package compact

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// downsample carries out a downsampling job.
func (c *Compactor) downsample(ctx context.Context, j plan.Job, now time.Time) error {
	dir, done, err := c.workDir(j)
	if err != nil {
		return err
	}
	defer done()
	inputs, err := c.fetch(ctx, dir, j.Blocks)
	if err != nil {
		return err
	}
	dest := filepath.Join(dir, "out")
	stats, err := c.downsampleInto(ctx, dest, inputs[0], j.Resolution)
	if err != nil {
		return fmt.Errorf("downsample block %s: %w", j.Blocks[0], err)
	}
	if stats.block.NumSamples == 0 {
		// Without the mark each pass would downsample the block again.
		why := block.Cause{Reason: reason.NothingToDownsample.String(), Details: "all samples are stale markers or NaN"}
		_, err := block.MarkNoDownsample(ctx, c.bkt, j.Blocks[0], why, now)
		return err
	}
	if err := describeCoarser(dest, inputs[0].meta, j.Resolution, stats.block, now); err != nil {
		return err
	}
	m, err := c.publish(ctx, dest, now)
	if err != nil {
		return err
	}
	c.log.Info("downsampled block", "group", j.Group, "block", m.ULID, "source", j.Blocks[0],
		"resolution", plan.ResolutionName(j.Resolution), "series", m.Stats.NumSeries, "samples", stats.read, "windows", m.Stats.NumSamples)
	return nil
}

func (c *Compactor) downsampleInto(ctx context.Context, dest string, in input, resolution int64) (_ mergeStats, err error) {
	defer recoverAs(&err, "downsample block")
	return downsampleBlock(ctx, dest, in, resolution)
}

// downsampleBlock writes the series of a block in a coarser resolution into the
// new directory dest.
func downsampleBlock(ctx context.Context, dest string, in input, resolution int64) (stats mergeStats, err error) {
	r, err := openBlock(ctx, in.dir, in.meta)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := newBlockWriter(ctx, dest, r.index.Symbols())
	if err != nil {
		return stats, err
	}
	err = downsampleSeries(ctx, r, w, downsample.New(in.meta.Resolution(), resolution))
	err = errors.Join(err, w.Close())
	return mergeStats{block: w.stats, read: r.samples}, err
}

func downsampleSeries(ctx context.Context, r *blockReader, w *blockWriter, d *downsample.Downsampler) error {
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ok, err := r.next()
		if !ok || err != nil {
			return err
		}
		out, err := downsampled(r, d)
		if err != nil {
			return err
		}
		if err := w.series(r.lset, out); err != nil {
			return err
		}
	}
}

// downsampled downsamples the current series of r. It returns an error or panic as
// damage of its chunks.
func downsampled(r *blockReader, d *downsample.Downsampler) (out []chunks.Meta, err error) {
	defer r.recover(&err)
	if out, err = d.Series(r.chks); err != nil {
		return nil, r.corrupt(reason.BlockChunkCorrupt, "series %s: %w", r.lset, err)
	}
	return out, nil
}

// describeCoarser writes the meta.json of a downsampled block, a changed copy of that
// of its input.
func describeCoarser(dir string, src *block.Meta, resolution int64, stats tsdb.BlockStats, now time.Time) error {
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return err
	}
	m := src.Clone()
	m.ULID, m.Stats = id, stats
	m.Thanos.Downsample.Resolution = resolution
	m.Thanos.Source = block.SourceCompactor
	m.Thanos.SegmentFiles, m.Thanos.Files, m.Thanos.IndexStats = nil, nil, block.IndexStats{}
	return block.WriteMetaDir(dir, m)
}
