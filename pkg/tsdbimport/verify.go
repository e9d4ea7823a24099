package tsdbimport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

const (
	// verifyBatch is the number of samples that are compared at once, each of which takes
	// about 150 bytes.
	verifyBatch = 1 << 18
	// maxOpen bounds the blocks that are open at one time. Their files are mapped.
	maxOpen = 512
)

// Verify reads the input again and looks for each of its samples in the blocks. It returns
// an error if one is missing, if the blocks have more samples than the input, or if more
// values differ than samples of equal times explain.
func Verify(ctx context.Context, in Input, r *Report) (err error) {
	v := &verifier{report: r, open: map[string]*tsdb.Block{}}
	defer func() { err = errors.Join(err, v.close()) }()
	v.reset()
	err = in.Each(ctx, func(lset labels.Labels, s Sample) error {
		h := lset.Hash()
		of := v.series[h]
		if of == nil {
			of = &expected{labels: lset, samples: map[int64][]Sample{}}
			v.series[h] = of
		} else if !labels.Equal(of.labels, lset) {
			// Two label sets of one hash: the batch ends between them.
			if err := v.flush(ctx); err != nil {
				return err
			}
			of = &expected{labels: lset, samples: map[int64][]Sample{}}
			v.series[h] = of
		}
		if s.H != nil {
			s.H = s.H.Copy()
		}
		if s.FH != nil {
			s.FH = s.FH.Copy()
		}
		of.samples[s.T] = append(of.samples[s.T], s)
		v.mint, v.maxt = min(v.mint, s.T), max(v.maxt, s.T)
		v.read++
		if v.held++; v.held == verifyBatch {
			return v.flush(ctx)
		}
		return nil
	})
	if err == nil {
		err = v.flush(ctx)
	}
	switch {
	case err != nil:
		return fmt.Errorf("verify the import: %w", err)
	case v.read != r.Read:
		return fmt.Errorf("verify the import: the second reading has %d samples, the first had %d", v.read, r.Read)
	case v.read-v.found > 0:
		return fmt.Errorf("verify the import: %d of %d samples are not in the blocks", v.read-v.found, v.read)
	case r.Stored > r.Read || v.different > r.Read-r.Stored:
		return fmt.Errorf("verify the import: %d values differ, and the blocks have %d samples of %d", v.different, r.Stored, r.Read)
	}
	return nil
}

// expected are samples of a series, by their times.
type expected struct {
	labels  labels.Labels
	samples map[int64][]Sample
}

// verifier compares batches of samples with the blocks.
type verifier struct {
	report     *Report
	open       map[string]*tsdb.Block // by directory
	series     map[uint64]*expected
	mint, maxt int64
	held       int
	// found are the samples whose time is in a block, different those of them whose value
	// is another one.
	read, found, different uint64
}

func (v *verifier) reset() {
	v.series, v.held = map[uint64]*expected{}, 0
	v.mint, v.maxt = 1<<63-1, -1<<63
}

// close closes the open blocks.
func (v *verifier) close() error {
	var errs []error
	for _, b := range v.open {
		errs = append(errs, b.Close())
	}
	clear(v.open)
	return errors.Join(errs...)
}

// flush compares the batch with each block that has times of it.
func (v *verifier) flush(ctx context.Context) error {
	for i, m := range v.report.Blocks {
		if !m.Overlaps(v.mint, v.maxt) {
			continue
		}
		if err := v.block(ctx, v.report.Dirs[i]); err != nil {
			return fmt.Errorf("block %s: %w", m.ULID, err)
		}
	}
	v.reset()
	return nil
}

// block compares the batch with one block. Few series are looked up; of many, all of the
// block are read.
func (v *verifier) block(ctx context.Context, dir string) (err error) {
	b := v.open[dir]
	if b == nil {
		if len(v.open) == maxOpen {
			if err := v.close(); err != nil {
				return err
			}
		}
		if b, err = tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, nil, nil); err != nil {
			return err
		}
		v.open[dir] = b
	}
	q, err := tsdb.NewBlockQuerier(b, v.mint, v.maxt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if len(v.series) > 1000 {
		return eachOfSet(ctx, q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchRegexp, "", ".*")), v.compare)
	}
	for _, of := range v.series {
		var ms []*labels.Matcher
		of.labels.Range(func(l labels.Label) {
			ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
		})
		if err := eachOfSet(ctx, q.Select(ctx, false, nil, ms...), func(lset labels.Labels, s Sample) error {
			if !labels.Equal(lset, of.labels) { // it has more labels
				return nil
			}
			return v.compare(lset, s)
		}); err != nil {
			return err
		}
	}
	return nil
}

// compare compares a sample of a block with those that the input has at its time.
func (v *verifier) compare(lset labels.Labels, s Sample) error {
	of := v.series[lset.Hash()]
	if of == nil || !labels.Equal(of.labels, lset) {
		return nil // of another batch
	}
	for _, want := range of.samples[s.T] {
		v.found++
		if !want.equal(&s) {
			v.different++
		}
	}
	delete(of.samples, s.T)
	return nil
}
