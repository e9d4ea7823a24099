package blockrewrite

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// renamed is a kept series of the source.
type renamed struct {
	after labels.Labels
	ref   storage.SeriesRef
}

// relabelled writes the series in the order of their new labels. Series that are equal
// then are merged: all their samples count, and one of those with equal times, that of
// the series that comes first in the source.
func (w *rewriter) relabelled(dest string) error {
	series, err := w.rename()
	if err != nil {
		return err
	}
	slices.SortStableFunc(series, func(a, b renamed) int { return labels.Compare(a.after, b.after) })
	var out *writer
	if !w.preview {
		used := map[string]struct{}{}
		for _, s := range series {
			symbols(s.after, func(t string) { used[t] = struct{}{} })
		}
		if out, err = newWriter(w.ctx, dest, index.NewStringListIter(slices.Sorted(maps.Keys(used)))); err != nil {
			return err
		}
	}
	err = w.merge(out, series)
	if out != nil {
		err = errors.Join(err, out.Close())
	}
	return err
}

// rename reads the index and decides about each series. Chunks of a series that is
// removed as a whole are loaded to count its samples.
func (w *rewriter) rename() (series []renamed, err error) {
	err = w.each(func() error {
		after := w.e.Relabel(w.r.lset)
		if after.IsEmpty() {
			if err := w.r.load(); err != nil {
				return err
			}
			n := samplesOf(w.r.chks)
			w.read += n
			w.record(Change{Before: w.r.lset, Samples: n})
			w.res.RemovedBytes += bytesOf(w.r.chks)
			return nil
		}
		removed, err := w.removes()
		if err != nil {
			return err
		}
		if removed {
			if err := w.r.load(); err != nil {
				return err
			}
			_, err = w.edit() // records the change
			return err
		}
		series = append(series, renamed{after: after, ref: w.r.ref})
		return nil
	})
	return series, err
}

// merge writes sorted series.
func (w *rewriter) merge(out *writer, series []renamed) error {
	merger := dedup.NewMerger(dedup.FuncChain)
	for n := 0; len(series) > 0; n++ {
		if n%256 == 0 && w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		same := 1
		for same < len(series) && labels.Equal(series[same].after, series[0].after) {
			same++
		}
		chks, sources, err := w.collect(series[:same])
		if err != nil {
			return err
		}
		if same > 1 && !w.preview {
			before := samplesOf(chks)
			if chks, err = merger.Chunks(chks, sources); err != nil {
				return fmt.Errorf("merge %d series that are %s after relabelling: %w", same, series[0].after, err)
			}
			w.merged += before - samplesOf(chks)
		}
		if err := w.write(out, series[0].after, chks); err != nil {
			return err
		}
		series = series[same:]
	}
	return nil
}

// collect returns the kept chunks of series that have equal labels, with the number of
// the series of each.
func (w *rewriter) collect(series []renamed) (all []chunks.Meta, sources []int, err error) {
	for i, s := range series {
		if err := w.r.at(s.ref); err != nil {
			return nil, nil, err
		}
		changed := w.res.ChangedSeries
		kept, err := w.edit()
		if err != nil {
			return nil, nil, err
		}
		if w.res.ChangedSeries == changed && !labels.Equal(w.r.lset, s.after) {
			w.record(Change{Before: w.r.lset, After: s.after})
		}
		if len(series) == 1 {
			return kept, nil, nil
		}
		for _, c := range kept {
			all, sources = append(all, c), append(sources, i)
		}
	}
	return all, sources, nil
}
