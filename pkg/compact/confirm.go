package compact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/samplecheck"
)

// blamed returns the error about a damaged input of the job, or nil. A damaged result
// is no error of an input.
func blamed(j plan.Job, err error) *block.CorruptError {
	var bad *block.CorruptError
	if !errors.As(err, &bad) || !slices.Contains(j.Blocks, bad.ID) {
		return nil
	}
	return bad
}

// confirm returns the error of a job after it has checked the block that the error
// blames: it downloads the block again and reads it alone, because a local disk can
// damage a file that is sound in the bucket. The result is a *block.CorruptError only
// if the second download is damaged too.
func (c *Compactor) confirm(ctx context.Context, j plan.Job, err error) error {
	if j.Kind != plan.Merge && j.Kind != plan.Downsample && j.Kind != plan.Rewrite {
		return err
	}
	bad := blamed(j, err)
	if bad == nil {
		return err
	}
	again := c.check(ctx, j, bad)
	switch {
	case blamed(j, again) != nil:
		return again
	case again != nil:
		return fmt.Errorf("confirm the damage of block %s by a second download: %w (first error: %s)", bad.ID, again, bad.Error())
	}
	// The first error is not wrapped, because its block is sound.
	return fmt.Errorf("block %s is damaged in the work directory but not in the bucket: %s", bad.ID, bad.Error())
}

// check downloads one input of a job again and reads all of it.
func (c *Compactor) check(ctx context.Context, j plan.Job, bad *block.CorruptError) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	dir := filepath.Join(c.work, "check-"+string(j.Kind)+"-"+bad.ID.String())
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m, err := block.Download(ctx, c.bkt, bad.ID, filepath.Join(dir, "in"), block.DownloadConfig{Concurrency: c.cfg.FilesConcurrency})
	if err != nil {
		return err
	}
	in := input{meta: m, dir: filepath.Join(dir, "in")}
	if j.Kind == plan.Downsample {
		return readAll(ctx, in, downsample.New(m.Resolution(), j.Resolution))
	}
	return readAll(ctx, in, nil)
}

// readAll reads every series and chunk of a block, and downsamples it; if d is nil, it decodes
// the chunks.
func readAll(ctx context.Context, in input, d *downsample.Downsampler) (err error) {
	r, err := openBlock(ctx, in.dir, in.meta)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if d == nil {
		r.checker = &samplecheck.Checker{}
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if ok, err := r.next(); !ok || err != nil {
			return err
		}
		if d == nil {
			continue
		}
		if err := r.downsample(d); err != nil {
			return err
		}
	}
}

// downsample downsamples the current series of r. It returns an error or panic as damage
// of its chunks.
func (r *blockReader) downsample(d *downsample.Downsampler) (err error) {
	defer r.recover(&err)
	if _, err := d.Series(r.chks); err != nil {
		return r.corrupt(reason.BlockChunkCorrupt, "series %s: %w", r.lset, err)
	}
	return nil
}
