package blockrewrite

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/chunkmask"
)

// rewriter is one run.
type rewriter struct {
	ctx        context.Context
	r          *reader
	e          Edits
	resolution int64
	preview    bool
	res        Result
	// read counts the samples of the source.
	read uint64
	// merged counts the samples that merging of series with equal labels dropped.
	merged uint64
}

// each calls f for each series of the source. Its chunks have no data.
func (w *rewriter) each(f func() error) error {
	if err := w.r.rewind(w.ctx); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		ok, err := w.r.next()
		if !ok || err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
}

// inOrder writes the series of the source in their order. It reads the index up to
// three times: for the symbols of removed series, for those of them that other series
// have, too, and for the series.
func (w *rewriter) inOrder(dest string) error {
	var out *writer
	if !w.preview {
		gone, err := w.removedSymbols()
		if err != nil {
			return err
		}
		if out, err = newWriter(w.ctx, dest, &without{StringIter: w.r.index.Symbols(), gone: gone}); err != nil {
			return err
		}
	}
	err := w.each(func() error {
		kept, err := w.edit()
		if err != nil {
			return err
		}
		return w.write(out, w.r.lset, kept)
	})
	if out != nil {
		err = errors.Join(err, out.Close())
	}
	return err
}

// write writes one series, or only counts it.
func (w *rewriter) write(out *writer, lset labels.Labels, chks []chunks.Meta) error {
	count(&w.res.Stats, chks)
	if out == nil || len(chks) == 0 {
		return nil
	}
	return out.add(lset, chks)
}

// edit loads the chunks of the current series, returns those that are kept, and
// records a change.
func (w *rewriter) edit() ([]chunks.Meta, error) {
	r := w.r
	if err := r.load(); err != nil {
		return nil, err
	}
	w.read += samplesOf(r.chks)
	deleted := w.deleted(r.lset)
	if !touches(r.chks, deleted) {
		return r.chks, nil
	}
	kept, err := r.mask(deleted, w.resolution)
	if err != nil {
		return nil, err
	}
	before, after := samplesOf(r.chks), samplesOf(kept)
	if before == after {
		// The intervals are between samples: nothing was removed.
		return r.chks, nil
	}
	c := Change{Before: r.lset, Deleted: deleted, Samples: before - after}
	if len(kept) > 0 {
		c.After = r.lset
	}
	w.record(c)
	w.res.RemovedBytes += bytesOf(r.chks) - bytesOf(kept)
	return kept, nil
}

func (w *rewriter) record(c Change) {
	w.res.ChangedSeries++
	w.res.RemovedSamples += c.Samples
	if c.After.IsEmpty() {
		w.res.RemovedSeries++
	}
	if w.e.OnChange != nil {
		w.e.OnChange(c)
	}
}

// removedSymbols returns the symbols that only removed series have. Its memory is
// bounded by the symbols of removed series.
func (w *rewriter) removedSymbols() (map[string]struct{}, error) {
	gone := map[string]struct{}{}
	err := w.each(func() error {
		removed, err := w.removes()
		if removed {
			symbols(w.r.lset, func(s string) { gone[s] = struct{}{} })
		}
		return err
	})
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	err = w.each(func() error {
		removed, err := w.removes()
		if !removed {
			symbols(w.r.lset, func(s string) { delete(gone, s) })
		}
		return err
	})
	return gone, err
}

// removes says whether no chunk of the current series is left. It decodes chunks only
// when none of them is kept as a whole.
func (w *rewriter) removes() (bool, error) {
	r := w.r
	if len(r.chks) == 0 {
		return true, nil
	}
	deleted := w.deleted(r.lset)
	if len(deleted) == 0 {
		return false, nil
	}
	partly := false
	for _, c := range r.chks {
		span := tombstones.Interval{Mint: c.MinTime, Maxt: c.MaxTime}
		switch {
		case !touches([]chunks.Meta{c}, deleted):
			return false, nil
		case !span.IsSubrange(deleted):
			partly = true
		}
	}
	if !partly {
		return true, nil
	}
	if err := r.load(); err != nil {
		return false, err
	}
	kept, err := r.mask(deleted, w.resolution)
	return len(kept) == 0, err
}

// mask returns the kept chunks of the current series, whose data is loaded.
func (r *reader) mask(deleted tombstones.Intervals, resolution int64) (kept []chunks.Meta, err error) {
	defer r.recover(&err)
	if kept, err = chunkmask.Metas(r.chks, deleted, resolution); err != nil {
		return nil, r.corruptChunk(fmt.Errorf("series %s: %w", r.lset, err))
	}
	return kept, nil
}

func touches(chks []chunks.Meta, deleted tombstones.Intervals) bool {
	for _, c := range chks {
		for _, d := range deleted {
			if c.OverlapsClosedInterval(d.Mint, d.Maxt) {
				return true
			}
		}
	}
	return false
}

func samplesOf(chks []chunks.Meta) (n uint64) {
	for _, c := range chks {
		n += uint64(c.Chunk.NumSamples())
	}
	return n
}

func bytesOf(chks []chunks.Meta) (n int64) {
	for _, c := range chks {
		n += int64(len(c.Chunk.Bytes()))
	}
	return n
}

func symbols(lset labels.Labels, f func(string)) {
	lset.Range(func(l labels.Label) {
		f(l.Name)
		f(l.Value)
	})
}

// without leaves symbols out.
type without struct {
	index.StringIter
	gone map[string]struct{}
}

func (w *without) Next() bool {
	for w.StringIter.Next() {
		if _, ok := w.gone[w.At()]; !ok {
			return true
		}
	}
	return false
}
