// Package blockscan finds the series of a block of the bucket by its index alone,
// with range reads: it decides whether a block has to be rewritten without a download
// of the block.
package blockscan

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Query is what to look for.
type Query struct {
	// Matchers are alternatives: a series is found if it satisfies all matchers of any
	// list. An empty list is every series. They see the labels in the block.
	Matchers [][]*labels.Matcher
	// Deleted returns the inclusive intervals that concern a series that was found,
	// already widened to the resolution of the block. A series without a chunk in them
	// does not count.
	Deleted func(labels.Labels) tombstones.Intervals
	// Any ends the scan at the first series that counts.
	Any bool
	// OnSeries is called for each series that counts, with the number of its chunks that
	// count; nil for none.
	OnSeries func(lset labels.Labels, chunks uint64)
}

// Result counts what was found.
type Result struct {
	Series uint64
	// Chunks are those that overlap an interval, Whole those within one.
	Chunks, Whole uint64
}

// Scan reads the index of a block, which has size bytes; 0 if unknown. Of its memory,
// the symbols and the table of postings are the largest part. A damaged index is an
// error.
func Scan(ctx context.Context, bkt bucket.Reader, m *block.Meta, size int64, q Query) (Result, error) {
	s := scanner{q: q, seen: map[storage.SeriesRef]struct{}{}, single: len(q.Matchers) == 1}
	err := open(ctx, bkt, m, size, func(r *index.Reader) error {
		s.r = r
		for _, ms := range q.Matchers {
			if err := s.scan(ctx, ms); err != nil || q.Any && s.res.Series > 0 {
				return err
			}
		}
		return nil
	})
	return s.res, err
}

// open calls f with the index of a block.
func open(ctx context.Context, bkt bucket.Reader, m *block.Meta, size int64, f func(*index.Reader) error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *readError:
			err = p.err
		default:
			// Decoders do not check bytes that have a checksum.
			err = fmt.Errorf("decoder failed: %v at %.1000s", p, debug.Stack())
		}
		if err != nil {
			err = fmt.Errorf("scan index of block %s: %w", m.ULID, err)
		}
	}()
	name := block.Path(m.ULID, block.IndexFile)
	if size <= 0 {
		o, err := bkt.Stat(ctx, name)
		if err != nil {
			return err
		}
		size = o.Size
	}
	r, err := index.NewReader(newRemote(ctx, bkt, name, size), index.DecodePostingsRaw)
	if err != nil {
		return err
	}
	return f(r)
}

type scanner struct {
	r       *index.Reader
	q       Query
	res     Result
	builder labels.ScratchBuilder
	chks    []chunks.Meta
	// seen are the series of earlier lists of matchers.
	seen   map[storage.SeriesRef]struct{}
	single bool
}

// withSorted is an index reader as tsdb.PostingsForMatchers takes it.
type withSorted struct{ *index.Reader }

// SortedPostings implements tsdb.IndexReader: series of a block are sorted.
func (withSorted) SortedPostings(p index.Postings) index.Postings { return p }

func postings(ctx context.Context, r *index.Reader, ms []*labels.Matcher) (index.Postings, error) {
	if len(ms) == 0 {
		name, value := index.AllPostingsKey()
		return r.Postings(ctx, name, value)
	}
	return tsdb.PostingsForMatchers(ctx, withSorted{r}, ms...)
}

func (s *scanner) scan(ctx context.Context, ms []*labels.Matcher) error {
	p, err := postings(ctx, s.r, ms)
	if err != nil {
		return err
	}
	for n := 0; p.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ref := p.At()
		if _, ok := s.seen[ref]; ok {
			continue
		}
		if !s.single {
			s.seen[ref] = struct{}{}
		}
		if err := s.series(ref); err != nil {
			return err
		}
		if s.q.Any && s.res.Series > 0 {
			return nil
		}
	}
	return p.Err()
}

// series counts one series.
func (s *scanner) series(ref storage.SeriesRef) error {
	if err := s.r.Series(ref, &s.builder, &s.chks); err != nil {
		return err
	}
	lset := s.builder.Labels()
	deleted := s.q.Deleted(lset)
	before := s.res.Chunks
	for _, c := range s.chks {
		for _, d := range deleted {
			if !c.OverlapsClosedInterval(d.Mint, d.Maxt) {
				continue
			}
			s.res.Chunks++
			if (tombstones.Interval{Mint: c.MinTime, Maxt: c.MaxTime}).IsSubrange(deleted) {
				s.res.Whole++
			}
			break
		}
	}
	if n := s.res.Chunks - before; n > 0 {
		s.res.Series++
		if s.q.OnSeries != nil {
			s.q.OnSeries(lset, n)
		}
	}
	return nil
}
