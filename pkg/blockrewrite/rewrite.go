package blockrewrite

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/chunkmask"
)

// Edits are the changes of a block. The functions get the labels of a series as the
// block has them, without external labels, and must return the same for the same
// labels; a series is asked for more than once.
type Edits struct {
	// Deleted returns the inclusive intervals whose samples are removed; none keeps
	// the series. nil deletes nothing. Of downsampled data, windows that overlap an
	// interval are removed.
	Deleted func(labels.Labels) tombstones.Intervals
	// Relabel returns the new labels of a series; empty ones remove it. nil keeps all
	// labels. Series that get equal labels are merged. With Relabel, the labels of
	// all series are held in memory.
	Relabel func(labels.Labels) labels.Labels
	// OnChange is called for each series that changes, in order of the source; nil
	// for none.
	OnChange func(Change)
}

// Change is that of one series.
type Change struct {
	Before labels.Labels
	// After is empty if the series was removed.
	After labels.Labels
	// Deleted are the intervals, empty for a series that was only relabelled.
	Deleted tombstones.Intervals
	// Samples is the number of samples that were removed; of downsampled data, of
	// windows.
	Samples uint64
}

// Result counts what a rewrite did.
type Result struct {
	// Stats are those of the new block.
	Stats tsdb.BlockStats
	// ChangedSeries counts the series of the source that changed, RemovedSeries those
	// of them that the result does not have.
	ChangedSeries, RemovedSeries uint64
	// RemovedSamples counts samples, or windows of downsampled data.
	RemovedSamples uint64
	// RemovedBytes is the size of the removed and the re-encoded chunks, less that of
	// their replacements.
	RemovedBytes int64
}

// Changed says whether the result differs from the source.
func (r Result) Changed() bool { return r.ChangedSeries > 0 }

// Rewrite reads the block with the meta.json m in the directory src and writes index
// and chunks of the changed block into the new directory dest. The result has no
// symbol that only removed series had. Damage of the source is a *block.CorruptError.
// A result without series has an index and no samples; it cannot be published.
//
// The samples of the result and the removed ones are counted, and their sum is
// compared with those of the source.
func Rewrite(ctx context.Context, src string, m *block.Meta, dest string, e Edits) (Result, error) {
	return run(ctx, src, m, dest, e)
}

// Preview counts what Rewrite would do, and writes nothing. Series that would get
// equal labels are not merged: Stats has no number of merged samples.
func Preview(ctx context.Context, src string, m *block.Meta, e Edits) (Result, error) {
	return run(ctx, src, m, "", e)
}

func run(ctx context.Context, src string, m *block.Meta, dest string, e Edits) (res Result, err error) {
	r, err := open(ctx, src, m)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w := &rewriter{ctx: ctx, r: r, e: e, resolution: m.Resolution(), preview: dest == ""}
	if e.Relabel != nil {
		err = w.relabelled(dest)
	} else {
		err = w.inOrder(dest)
	}
	if err != nil {
		return w.res, err
	}
	if want := w.read - w.res.RemovedSamples - w.merged; w.res.Stats.NumSamples != want {
		return w.res, fmt.Errorf("rewrite block %s: the result has %d samples instead of %d", m.ULID, w.res.Stats.NumSamples, want)
	}
	return w.res, nil
}

// Check reads the block in the directory dir, a result of Rewrite with the meta.json m
// of Describe, and returns an error if it still has a deleted sample, or other numbers
// of series, chunks and samples than m.
func Check(ctx context.Context, dir string, m *block.Meta, deleted func(labels.Labels) tombstones.Intervals) error {
	var left *Change
	res, err := Preview(ctx, dir, m, Edits{Deleted: deleted, OnChange: func(c Change) {
		if left == nil {
			left = &c
		}
	}})
	switch {
	case err != nil:
		return err
	case left != nil:
		return fmt.Errorf("rewritten block %s still has %d deleted samples of series %s", m.ULID, left.Samples, left.Before)
	case res.Stats != m.Stats:
		return fmt.Errorf("rewritten block %s has %+v instead of %+v", m.ULID, res.Stats, m.Stats)
	}
	return nil
}

// deleted returns the intervals of a series, widened to windows.
func (w *rewriter) deleted(lset labels.Labels) tombstones.Intervals {
	if w.e.Deleted == nil {
		return nil
	}
	return chunkmask.Widen(w.e.Deleted(lset), w.resolution)
}
