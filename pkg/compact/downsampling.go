package compact

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// downsample carries out a downsampling job.
func (c *Compactor) downsample(ctx context.Context, j plan.Job, now func() time.Time) error {
	dir, done, err := c.workDir(j)
	if err != nil {
		return err
	}
	defer done()
	inputs, err := c.readMetas(ctx, j.Blocks)
	if err != nil {
		return err
	}
	m, err := c.downsampleInto(ctx, dir, inputs[0], j.Resolution, now)
	if err != nil {
		return fmt.Errorf("downsample block %s: %w", j.Blocks[0], err)
	}
	if m == nil {
		// Without the mark each pass would downsample the block again.
		why := block.Cause{Reason: reason.NothingToDownsample.String(), Details: "all samples are stale markers or NaN"}
		_, err := block.MarkNoDownsample(ctx, c.bkt, j.Blocks[0], why, now())
		return err
	}
	c.log.Info("downsampled block", "group", j.Group, "block", m.ULID, "source", j.Blocks[0],
		"resolution", plan.ResolutionName(j.Resolution), "series", m.Stats.NumSeries, "samples", readSamples(ctx).Load(), "windows", m.Stats.NumSamples)
	return nil
}

// downsampleInto publishes the coarser block of an input, or returns nil if it has no
// samples and is no shard. Segments are uploaded while it downsamples. It deletes the objects of a failed
// upload.
func (c *Compactor) downsampleInto(ctx context.Context, dir string, in input, resolution int64, now func() time.Time) (m *block.Meta, err error) {
	out := c.newPublications(ctx, dir, now)
	defer func() {
		if err != nil || m == nil {
			m = nil
			c.abandon(ctx, out.all, err)
		}
	}()
	defer recoverAs(&err, "downsample block")
	cfg := c.mergeConfig(ctx)
	cfg.Convert = func() func([]chunks.Meta) ([]chunks.Meta, error) {
		return downsample.New(in.meta.Resolution(), resolution).Series
	}
	cfg.Check = c.checker([]input{in}, blockcheck.Config{Resolution: resolution, From: in.meta.Resolution()})
	results, err := blockmerge.Merge(ctx, c.bkt, []blockmerge.Source{{Meta: in.meta}}, out.create, cfg)
	switch {
	case err != nil:
		return nil, err
	case results[0].Stats.NumSamples > 0:
	case !keptEmpty(in.meta):
		return nil, nil
	default:
		if err := writeEmptyIndex(ctx, out.path(0)); err != nil {
			return nil, err
		}
	}
	coarser := describeCoarser(out.all[0].ID(), in.meta, resolution, results[0].Stats)
	made := []blockcheck.Result{{Meta: coarser, Dir: out.path(0), ChunkMaxSize: results[0].ChunkMaxSize}}
	if results[0].Stats.NumSamples == 0 {
		made = nil
	}
	return coarser, complete(ctx, out.all[0], coarser, results[0].ChunkMaxSize, func() error {
		return cfg.Check.Verify(ctx, c.bkt, made)
	})
}

// describeCoarser returns the meta.json of a downsampled block, a changed copy of that
// of its input.
func describeCoarser(id ulid.ULID, src *block.Meta, resolution int64, stats tsdb.BlockStats) *block.Meta {
	m := src.Clone()
	m.ULID, m.Stats = id, stats
	m.Thanos.Downsample.Resolution = resolution
	m.Thanos.Source = block.SourceCompactor
	m.Thanos.SegmentFiles, m.Thanos.Files, m.Thanos.IndexStats = nil, nil, block.IndexStats{}
	m.SetChecked(true) // all chunks are new
	return m
}
