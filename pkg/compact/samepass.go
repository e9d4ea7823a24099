package compact

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// second is the coarser block that a merge makes in the same pass. An error about it does
// not end the merge: the next plan has a job for the block.
type second struct {
	beside     *blockmerge.Beside // nil if the job has none
	resolution int64
	pubs       *publications
	published  bool
	failure    error // of its publication
}

// newSecond prepares the second block of a job. There is none with a budget for the
// disk, which is for one block.
func (c *Compactor) newSecond(ctx context.Context, dir string, j plan.Job, inputs []input, now func() time.Time) *second {
	s := &second{resolution: j.Downsample, pubs: c.newPublications(ctx, filepath.Join(dir, "second"), now)}
	if j.Downsample > 0 && c.cfg.DiskBudget == 0 {
		s.beside = &blockmerge.Beside{
			Convert: func() func([]chunks.Meta) ([]chunks.Meta, error) {
				return downsample.New(j.Resolution, j.Downsample).Series
			},
			Create: func() blockmerge.Output { return s.pubs.create(0, 1) },
			Check:  c.checker(inputs, blockcheck.Config{Resolution: j.Downsample}),
		}
	}
	return s
}

// publishSecond publishes the second block after the merged one, whose sources it has.
func (c *Compactor) publishSecond(ctx context.Context, s *second, merged *block.Meta) error {
	if s.beside == nil {
		return nil
	}
	err := s.beside.Err
	if err == nil {
		if s.beside.Result.Stats.NumSamples == 0 {
			return nil // the next plan finds out that there is nothing to downsample
		}
		m := describeCoarser(s.pubs.all[0].ID(), merged, s.resolution, s.beside.Result.Stats)
		made := blockcheck.Result{Meta: m, Dir: s.pubs.path(0), ChunkMaxSize: s.beside.Result.ChunkMaxSize}
		verify := func() error { return s.beside.Check.Verify(ctx, c.bkt, []blockcheck.Result{made}) }
		if err = complete(ctx, s.pubs.all[0], m, made.ChunkMaxSize, verify); err == nil {
			s.published = true
			c.log.Info("downsampled merged block", "block", m.ULID, "source", merged.ULID,
				"resolution", plan.ResolutionName(s.resolution), "series", m.Stats.NumSeries, "windows", m.Stats.NumSamples)
			return nil
		}
	}
	s.failure = err
	if errors.Is(err, lease.ErrLost) || errors.Is(err, block.ErrMayBePublished) || ctx.Err() != nil {
		return err
	}
	c.log.Warn("merged block not downsampled in the same pass, it will be by itself", "block", merged.ULID, "err", err)
	return nil
}

// abandonSecond deletes the objects of a second block that was not published.
func (c *Compactor) abandonSecond(ctx context.Context, s *second) {
	if !s.published {
		c.abandon(ctx, s.pubs.all, s.failure)
	}
}

// complete uploads what is left of a downsampled block, verifies it, and publishes it.
func complete(ctx context.Context, p *block.Publication, m *block.Meta, chunkMaxSize int64, verify func() error) error {
	if err := stampLease(ctx, m); err != nil {
		return err
	}
	if err := p.Upload(ctx, m, chunkMaxSize); err != nil {
		return err
	}
	if err := verify(); err != nil {
		return err
	}
	return p.Finish(ctx, m)
}
