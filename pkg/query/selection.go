package query

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

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
	s.set = open()
	var slab chunkSlab
	for s.set.Next() {
		at := s.set.At()
		chunks := slab.copy(at.Chunks)
		if n := len(s.series); n > 0 && labels.Equal(s.series[n-1].lset, at.Labels) {
			last := s.series[n-1]
			last.chunks = join(last.chunks, chunks)
			continue
		}
		s.series = append(s.series, &series{view: v, lset: at.Labels, chunks: chunks})
	}
	s.err = ended(ctx, s.set.Err())
	s.ws = annotate(s.set.Warnings(), s.report)
}

// ended tells the end of the query's time from failures of stores, which see it
// only as an error of their own.
func ended(ctx context.Context, err error) error {
	const doing = "reading from the stores"
	switch {
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
	if s.set == nil {
		return nil
	}
	set := s.set
	s.set = nil
	return set.Close()
}

// join merges the chunks of two parts of one series, without those that are in
// both.
func join(a, b []storeapi.Chunk) []storeapi.Chunk {
	all := append(slices.Clip(a), b...)
	slices.SortStableFunc(all, func(x, y storeapi.Chunk) int {
		return cmp.Or(cmp.Compare(x.MinTime, y.MinTime), cmp.Compare(x.MaxTime, y.MaxTime), bytes.Compare(x.Raw.Bytes, y.Raw.Bytes))
	})
	return slices.CompactFunc(all, func(x, y storeapi.Chunk) bool {
		return x.Aggr == nil && y.Aggr == nil && bytes.Equal(x.Raw.Bytes, y.Raw.Bytes) && x.MinTime == y.MinTime
	})
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
	i int
}

func (s *seriesSet) Next() bool {
	<-s.done
	if s.i+1 >= len(s.series) {
		return false
	}
	s.i++
	return true
}

func (s *seriesSet) At() storage.Series { return s.series[s.i] }

func (s *seriesSet) Err() error {
	<-s.done
	return s.err
}

func (s *seriesSet) Warnings() annotations.Annotations {
	<-s.done
	return s.ws
}
