package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// selection is the answer to one selector. The engine holds all series of a
// selector before it evaluates any, so they are read to the end in the
// background, undecoded: label sets and chunks as they came.
type selection struct {
	cancel context.CancelFunc
	done   chan struct{}
	report *promapi.Report
	// reading is that of the query; nil when no engine asks.
	reading *reading
	// account counts the data that is read; it may be nil.
	account *account
	// steps is the number of steps at which each series is evaluated.
	steps int64
	// partial returns the readable part, with a warning, where a part is damaged.
	partial bool
	group   grouping

	// resolution is the coarsest one that was read.
	resolution int64
	// care finds damaged chunks; nil when nobody looks for them.
	care *inspector
	// at is the series that is being read, and origin names its stores.
	at     storeapi.Series
	origin func() string

	// Valid once done is closed.
	set    storeapi.SeriesSet
	series []*series
	err    error
	ws     annotations.Annotations
}

// read pulls the whole stream. gate bounds how many do so for one query.
func (s *selection) read(ctx context.Context, gate chan struct{}, v *view, open func() storeapi.SeriesSet) {
	defer close(s.done)
	select {
	case gate <- struct{}{}:
		defer func() { <-gate }()
	case <-ctx.Done():
		s.err = ended(ctx, nil)
		return
	}
	s.open(ctx, v, open)
	err := s.readAll(ctx, v)
	if err == nil {
		err = s.account.keeps(int64(len(s.series)))
	}
	s.finish(ctx, v, err)
}

// open asks the stores.
func (s *selection) open(ctx context.Context, v *view, open func() storeapi.SeriesSet) {
	s.set = open()
	s.origin = func() string { return originOf(s.set, s.at) }
	if careful(ctx) {
		s.care = &inspector{aggrs: v.aggrs, name: originNames(s.set)}
	}
}

// finish sets the error and the warnings of the selection. err ended the reading.
func (s *selection) finish(ctx context.Context, v *view, err error) {
	if err == nil {
		err = s.set.Err()
	}
	ws := s.set.Warnings()
	if damage := s.care.warnings(); len(damage) > 0 {
		if !s.partial && err == nil {
			err = fmt.Errorf("%w: %s", storeapi.ErrPartial, damage[0].Text)
		}
		ws = append(ws, damage...)
	}
	s.err = ended(ctx, err)
	s.ws = annotate(ws, s.report)
	s.ws.Merge(v.plan.doubts(s.resolution))
}

// readAll keeps all series of the set.
func (s *selection) readAll(ctx context.Context, v *view) error {
	r := reader{view: v, group: s.group}
	defer func() { s.series = r.finish() }()
	for s.set.Next() {
		at := s.set.At()
		at.Chunks = r.slab.copy(at.Chunks)
		chunks, _, err := s.take(ctx, v, at, !r.continues(at))
		if err != nil {
			return err
		}
		if !r.add(at.Labels, chunks) {
			break
		}
	}
	return nil
}

// take counts a series that the stores sent, whose chunk slice is a copy, and returns
// those of its chunks that are used, and what the account counts for it.
func (s *selection) take(ctx context.Context, v *view, at storeapi.Series, newSeries bool) (chunks []storeapi.Chunk, cost held, err error) {
	s.at = at
	if cost, err = s.account.read(ctx, at, s.steps, newSeries, s.origin); err != nil {
		s.cancel() // the stores need not go on
		return nil, held{}, err
	}
	chunks = s.care.whole(at.Labels, at.Chunks)
	if err := s.reading.meet(chunks); err != nil {
		return nil, cost, err
	}
	if v.plan != nil {
		s.resolution = max(s.resolution, aggr.CoarsestResolution(chunks, math.MaxInt64))
	}
	return chunks, cost, nil
}

// ended separates the end of the query's time from failures of stores, which see it
// only as an error of their own.
func ended(ctx context.Context, err error) error {
	const doing = "reading from the stores"
	if own := ownCause(ctx); own != nil && err != nil {
		return own
	}
	switch {
	case errors.Is(err, limit.ErrExceeded), errors.Is(err, errBusy):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return promql.ErrQueryTimeout(doing)
	case ctx.Err() != nil:
		return promql.ErrQueryCanceled(doing)
	}
	return err
}

func (s *selection) close() error {
	s.cancel()
	<-s.done
	s.series = nil
	return s.closeSet()
}

func (s *selection) closeSet() error {
	if s.set == nil {
		return nil
	}
	set := s.set
	s.set = nil
	return set.Close()
}

// chunkSlab copies small slices of chunks into few large ones.
type chunkSlab struct{ free []storeapi.Chunk }

const slabChunks = 512

func (s *chunkSlab) copy(chunks []storeapi.Chunk) []storeapi.Chunk {
	n := len(chunks)
	if n > len(s.free) {
		if n > slabChunks/4 {
			return slices.Clone(chunks)
		}
		s.free = make([]storeapi.Chunk, slabChunks)
	}
	out := s.free[:n:n]
	s.free = s.free[n:]
	copy(out, chunks)
	return out
}

// seriesSet walks over a selection, once that is complete.
type seriesSet struct {
	*selection
	// ctx is that of the query, which reads the set.
	ctx context.Context
	i   int
	// lost is the error of a query that waited for the stores and then did not
	// get its slot back.
	lost error
}

func (s *seriesSet) wait() bool {
	if s.lost == nil {
		s.lost = s.account.await(s.ctx, s.done)
	}
	return s.lost == nil
}

func (s *seriesSet) Next() bool {
	if !s.wait() || s.i+1 >= len(s.series) {
		return false
	}
	s.i++
	return true
}

func (s *seriesSet) At() storage.Series {
	if one := s.series[s.i]; one.view.lookback > 0 {
		return aliveSeries{one}
	}
	return s.series[s.i]
}

func (s *seriesSet) Err() error {
	if !s.wait() {
		return s.lost
	}
	return s.err
}

func (s *seriesSet) Warnings() annotations.Annotations {
	if !s.wait() {
		return nil
	}
	return s.ws
}
