package compact

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// markNothing is the reason in the mark of a block that has no samples which
// could be downsampled. Without it the block would be tried for ever.
const markNothing = "nothing-to-downsample"

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
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return err
	}
	dest := filepath.Join(dir, "out")
	res, err := c.downsampleBlock(ctx, downsample.Config{Source: inputs[0].dir, Dest: dest, ID: id, Resolution: j.Resolution})
	if errors.Is(err, downsample.ErrEmpty) {
		_, err := block.MarkNoDownsample(ctx, c.bkt, j.Blocks[0], block.Cause{Reason: markNothing, Details: "all samples are stale markers or NaN"}, now)
		return err
	}
	if err != nil {
		return err
	}
	m, err := c.publish(ctx, dest, now)
	if err != nil {
		return err
	}
	c.log.Info("downsampled a block", "group", j.Group, "input", j.Blocks[0], "result", m.ULID,
		"resolution", plan.ResolutionName(j.Resolution), "series", m.Stats.NumSeries, "samples", res.Samples, "windows", m.Stats.NumSamples, "reason", j.Reason)
	return nil
}

func (c *Compactor) downsampleBlock(ctx context.Context, cfg downsample.Config) (_ *downsample.Result, err error) {
	defer recoverAs(&err, "downsample block")
	return downsample.Block(ctx, cfg)
}
