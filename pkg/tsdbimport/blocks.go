package tsdbimport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Blocks are the samples of blocks of Prometheus, each in a directory, such as those of a
// snapshot.
type Blocks struct{ Dirs []string }

// Each implements Input. One block is open at a time.
func (in Blocks) Each(ctx context.Context, f func(labels.Labels, Sample) error) error {
	for _, dir := range in.Dirs {
		if err := eachOfBlock(ctx, dir, f); err != nil {
			return fmt.Errorf("block %s: %w", dir, err)
		}
	}
	return nil
}

func eachOfBlock(ctx context.Context, dir string, f func(labels.Labels, Sample) error) (err error) {
	b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchRegexp, "", ".*"))
	return eachOfSet(ctx, set, f)
}

// eachOfSet calls f with each sample of a set.
func eachOfSet(ctx context.Context, set storage.SeriesSet, f func(labels.Labels, Sample) error) error {
	var it chunkenc.Iterator
	for set.Next() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s := set.At()
		it = s.Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			var out Sample
			switch vt {
			case chunkenc.ValHistogram:
				out.T, out.H = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				out.T, out.FH = it.AtFloatHistogram(nil)
			default:
				out.T, out.V = it.At()
			}
			if err := f(s.Labels(), out); err != nil {
				return err
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	return set.Err()
}
