package headship

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// formerAge is how long a generation must not have grown, and formerInterval how often
// the generations of the source are listed.
const (
	formerAge      = time.Hour
	formerInterval = time.Hour
)

// clean removes the pieces whose samples are in blocks in the bucket, and series that
// no piece needs any more.
func (s *Shipper) clean(ctx context.Context, cov *coverage) error {
	g := s.gen
	keep := map[uint64]bool{}
	for _, k := range []headlog.Kind{headlog.KindWAL, headlog.KindWBL} {
		if p := lastOf(g.pieces, k); p != nil {
			keep[p.Seq] = true // the place in the log
		}
	}
	err := s.remove(ctx, func(p headlog.Piece) bool {
		return p.Kind.HasSamples() && !keep[p.Seq] && cov.holds(p.Name)
	})
	if err != nil {
		return err
	}
	needed := slices.ContainsFunc(g.pieces, func(p headlog.Piece) bool { return p.Kind.HasSamples() && p.Seq < g.clean })
	if !needed {
		// A checkpoint lacks the series of later segments, which may be shipped already.
		err = s.remove(ctx, func(p headlog.Piece) bool {
			return !p.Kind.HasSamples() && p.Seq < g.clean && p.Segment <= g.cleanSegment
		})
	}
	s.metrics.held.Set(float64(len(g.pieces)))
	if err != nil {
		return err
	}
	return s.cleanFormer(ctx, cov)
}

// remove removes the pieces of the current generation that which selects.
func (s *Shipper) remove(ctx context.Context, which func(headlog.Piece) bool) error {
	g := s.gen
	kept := g.pieces[:0]
	var failed error
	for _, p := range g.pieces {
		if failed == nil && which(p) {
			if failed = s.deps.Bucket.Delete(ctx, p.Object); failed == nil {
				s.metrics.removed.Inc()
				if !p.Kind.HasSamples() {
					g.seriesBytes -= p.Size
				}
				continue
			}
			failed = fmt.Errorf("remove piece of head log: %w", failed)
		}
		kept = append(kept, p)
	}
	clear(g.pieces[len(kept):])
	g.pieces = kept
	return failed
}

// cleanFormer removes ended generations of the source whose samples are all in blocks
// of this directory that are in the bucket. All others are left to recovery: the
// blocks that hold them are not here, or they are of another Prometheus that has the
// same labels and may still write.
func (s *Shipper) cleanFormer(ctx context.Context, cov *coverage) error {
	if time.Since(s.formerAt) > formerInterval {
		all, err := s.list(ctx, s.gen.source)
		if err != nil {
			return err
		}
		s.former, s.formerAt = all, time.Now()
	}
	rest := s.former[:0]
	var failed error
	for _, f := range s.former {
		if failed != nil || f.ID == s.gen.id || !ended(f, s.formerAt) || !allHeld(f, cov) {
			rest = append(rest, f)
			continue
		}
		if failed = s.removeGeneration(ctx, f); failed != nil {
			rest = append(rest, f)
		}
	}
	s.former = rest
	return failed
}

// ended says whether a generation had not grown for long when it was listed. The clock
// of the bucket may differ from this one by less than formerAge.
func ended(f *headlog.Generation, listed time.Time) bool {
	return !f.Modified.IsZero() && listed.Sub(f.Modified) > formerAge
}

// allHeld says whether blocks contain all times of a generation. Out-of-order samples may
// have come after the block of their time, so that they are left to recovery.
func allHeld(f *headlog.Generation, cov *coverage) bool {
	for _, p := range f.Pieces {
		if p.Kind == headlog.KindWBL || p.Kind.HasSamples() && !cov.holdsRange(p.MinTime, p.MaxTime) {
			return false
		}
	}
	return true
}

// removeGeneration removes the pieces and then the object with the labels.
func (s *Shipper) removeGeneration(ctx context.Context, f *headlog.Generation) error {
	objects := make([]string, 0, len(f.Pieces)+1)
	for _, p := range f.Pieces {
		objects = append(objects, p.Object)
	}
	for _, o := range append(objects, f.Dir()+"/"+headlog.InfoName) {
		if err := s.deps.Bucket.Delete(ctx, o); err != nil {
			return fmt.Errorf("remove former head log: %w", err)
		}
	}
	s.metrics.removed.Add(float64(len(f.Pieces)))
	s.deps.Logger.Info("former head log removed", "generation", f.ID)
	return nil
}
