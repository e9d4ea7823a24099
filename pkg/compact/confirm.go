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
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// blamed returns the error that blames an input of the job, or nil. A broken
// result is not the fault of an input.
func blamed(j plan.Job, err error) *block.CorruptError {
	var bad *block.CorruptError
	if !errors.As(err, &bad) || !slices.Contains(j.Blocks, bad.ID) {
		return nil
	}
	return bad
}

// confirm returns the error of a job, after a second look at the block that it
// blames: the block is downloaded again and read alone, since a local disk can
// damage a file that is sound in the bucket. Only what the second download shows
// as well is a *block.CorruptError.
func (c *Compactor) confirm(ctx context.Context, j plan.Job, err error) error {
	if j.Kind != plan.Merge && j.Kind != plan.Downsample {
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
		return fmt.Errorf("block %s seems damaged, which a second download could not confirm: %w (first: %s)", bad.ID, again, bad.Error())
	}
	// The chain to the first error is cut on purpose: nothing is to be blamed.
	return fmt.Errorf("block %s was damaged in the work folder only, a second download of it is sound: %s", bad.ID, bad.Error())
}

// check downloads one input of a job anew and reads all of it.
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
		_, err = c.downsampleInto(ctx, filepath.Join(dir, "out"), in, j.Resolution)
		return err
	}
	return readAll(ctx, in)
}

// readAll reads every series and chunk of a block.
func readAll(ctx context.Context, in input) (err error) {
	r, err := openBlock(ctx, in.dir, in.meta)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if ok, err := r.next(); !ok || err != nil {
			return err
		}
	}
}
