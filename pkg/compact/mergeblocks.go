package compact

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// mergeStats are the statistics of a merge or a downsampling.
type mergeStats struct {
	block tsdb.BlockStats
	// read counts the samples of the inputs.
	read uint64
}

// mergeBlocks writes the series of all inputs into the new directory dest, each once,
// in order. It copies chunks that do not overlap others of their series.
//
// Blocks that differ in the labels of ring only are of one source.
func mergeBlocks(ctx context.Context, dest string, inputs []input, ring []string, m *dedup.Merger) (stats mergeStats, err error) {
	readers := make([]*blockReader, 0, len(inputs))
	defer func() {
		for _, r := range readers {
			err = errors.Join(err, r.Close())
		}
	}()
	var symbols index.StringIter
	sources := sourcesOf(inputs, ring)
	for i, in := range inputs {
		r, err := openBlock(ctx, in.dir, in.meta)
		if err != nil {
			return stats, err
		}
		r.source = sources[i]
		readers = append(readers, r)
		if symbols == nil {
			symbols = r.index.Symbols()
		} else {
			symbols = tsdb.NewMergedStringIter(symbols, r.index.Symbols())
		}
	}
	w, err := newBlockWriter(ctx, dest, symbols)
	if err != nil {
		return stats, err
	}
	err = mergeSeries(ctx, readers, w, m)
	if err = errors.Join(err, w.Close()); err != nil {
		return stats, err
	}
	stats.block = w.stats
	for _, r := range readers {
		stats.read += r.samples
	}
	if want := stats.read - m.Dropped(); stats.block.NumSamples != want {
		return stats, fmt.Errorf("the result has %d samples instead of %d", stats.block.NumSamples, want)
	}
	return stats, m.Check()
}

// mergeSeries merges the series of the readers, of which it reads the first ones.
func mergeSeries(ctx context.Context, readers []*blockReader, w *blockWriter, m *dedup.Merger) error {
	live := make([]*blockReader, 0, len(readers))
	for _, r := range readers {
		ok, err := r.next()
		if err != nil {
			return err
		}
		if ok {
			live = append(live, r)
		}
	}
	var equal []*blockReader // those that have the smallest labels
	var metas []chunks.Meta
	var origins []int // the sources of metas
	for n := 0; len(live) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		equal = smallest(live, equal[:0])
		metas, origins = metas[:0], origins[:0]
		for _, r := range equal {
			metas = append(metas, r.chks...)
			for range r.chks {
				origins = append(origins, r.source)
			}
		}
		out, err := m.Chunks(metas, origins)
		if err != nil {
			return fmt.Errorf("merge series %s: %w", equal[0].lset, err)
		}
		if err := w.series(equal[0].lset, out); err != nil {
			return err
		}
		if live, err = advance(live, equal); err != nil {
			return err
		}
	}
	return nil
}

// smallest appends to equal the readers whose series has the smallest labels.
func smallest(live, equal []*blockReader) []*blockReader {
	equal = append(equal, live[0])
	for _, r := range live[1:] {
		switch c := labels.Compare(r.lset, equal[0].lset); {
		case c < 0:
			equal = append(equal[:0], r)
		case c == 0:
			equal = append(equal, r)
		}
	}
	return equal
}

// advance moves readers on and returns those of live that have a series.
func advance(live, readers []*blockReader) ([]*blockReader, error) {
	ended := false
	for _, r := range readers {
		ok, err := r.next()
		if err != nil {
			return nil, err
		}
		ended = ended || !ok
	}
	if !ended {
		return live, nil
	}
	out := live[:0]
	for _, r := range live {
		if !r.ended {
			out = append(out, r)
		}
	}
	return out, nil
}

// sourcesOf numbers the sources of the blocks, in the order of their external
// labels, so that the same replica is preferred in every merge. Labels of ring
// make no difference.
func sourcesOf(inputs []input, ring []string) []int {
	keys := make([]string, len(inputs))
	for i, in := range inputs {
		keys[i] = labels.NewBuilder(in.meta.ExternalLabels()).Del(ring...).Labels().String()
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(keys)))
	out := make([]int, len(inputs))
	for i, k := range keys {
		out[i], _ = slices.BinarySearch(distinct, k)
	}
	return out
}
