package tsdbstore

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// selection is one request against an open querier.
type selection struct {
	ctx context.Context
	q   storage.ChunkQuerier
	r   *storeapi.Request
	ms  []*labels.Matcher
	ext labels.Labels
}

// read returns the series as they are in the TSDB.
func (s selection) read(skipChunks bool) *chunkSet {
	hints := &storage.SelectHints{
		Start: s.r.MinTime,
		End:   s.r.MaxTime,
		// The chunks are returned whole: cutting them would cost decoding and
		// encoding, and the reader cuts anyway.
		DisableTrimming: true,
	}
	if skipChunks {
		hints.Func = "series"
	}
	// The querier may sort the matchers in place.
	set := s.q.Select(s.ctx, true, hints, slices.Clone(s.ms)...)
	return &chunkSet{ctx: s.ctx, set: set, skipChunks: skipChunks}
}

// ordered returns the series with the labels and in the order of the answer.
func (s selection) ordered() (storeapi.SeriesSet, error) {
	order := storeapi.Reorder{External: s.ext, Drop: s.r.WithoutReplicaLabels, Order: s.r.Order()}
	if len(order.Drop) > 0 || len(s.r.SortWithout) > 0 {
		names, _, err := s.q.LabelNames(s.ctx, nil)
		if err != nil {
			return nil, fmt.Errorf("label names: %w", err)
		}
		order.Own = func(name string) bool {
			_, ok := slices.BinarySearch(names, name)
			return ok
		}
	}
	if order.MayHoldBack() {
		// Reading the labels once more, without chunks, costs a fraction of
		// reading the chunks, and saves holding back whole metrics.
		late, err := order.HasLatePrefixes(s.read(true))
		if err != nil {
			return nil, err
		}
		order.NoPrefixes = !late
	}
	return order.Apply(s.read(s.r.SkipChunks)), nil
}

// matchesAny reports whether the TSDB has any matching series.
func (s selection) matchesAny() (bool, error) {
	set := s.read(true)
	if set.Next() {
		return true, nil
	}
	if err := set.Err(); err != nil {
		return false, fmt.Errorf("look for a series in tsdb: %w", err)
	}
	return false, nil
}

// chunkSet adapts a set of the TSDB.
type chunkSet struct {
	ctx        context.Context
	set        storage.ChunkSeriesSet
	skipChunks bool

	it    chunks.Iterator
	cur   storeapi.Series
	stats storeapi.Stats
	err   error
}

func (s *chunkSet) Next() bool {
	for s.err == nil {
		if s.err = s.ctx.Err(); s.err != nil || !s.set.Next() {
			return false
		}
		series := s.set.At()
		s.cur.Labels = series.Labels()
		s.cur.Chunks = s.cur.Chunks[:0]
		s.stats.SeriesTouched++
		if s.skipChunks {
			return true
		}
		if s.err = s.readChunks(series); s.err == nil && len(s.cur.Chunks) > 0 {
			return true
		}
	}
	return false
}

// readChunks appends the chunks of the series to s.cur, without those that have no
// samples. Their bytes belong to the TSDB and are valid until the querier is
// closed. A chunk that fails its check fails the request: the TSDB's files are local,
// so the chunk is damaged on disk.
func (s *chunkSet) readChunks(series storage.ChunkSeries) error {
	s.it = series.Iterator(s.it)
	for s.it.Next() {
		m := s.it.At()
		if m.Chunk == nil || m.Chunk.NumSamples() == 0 {
			continue
		}
		if err := chunkcheck.Check(m.Chunk.Encoding(), m.Chunk.Bytes()); err != nil {
			return fmt.Errorf("read chunks of %s: %w", s.cur.Labels, err)
		}
		if m.MaxTime == math.MaxInt64 {
			// A chunk that is still written to; its end is that of the copy.
			last, err := lastTime(m.Chunk)
			if err != nil {
				return fmt.Errorf("read the open chunk of %s: %w", s.cur.Labels, err)
			}
			m.MaxTime = last
		}
		b := m.Chunk.Bytes()
		s.cur.Chunks = append(s.cur.Chunks, storeapi.Chunk{
			MinTime: m.MinTime,
			MaxTime: m.MaxTime,
			Raw:     storeapi.Data{Encoding: m.Chunk.Encoding(), Bytes: b},
		})
		s.stats.ChunksTouched++
		s.stats.ChunksBytes += int64(len(b))
	}
	if err := s.it.Err(); err != nil {
		return fmt.Errorf("read chunks of %s: %w", s.cur.Labels, err)
	}
	return nil
}

func lastTime(c chunkenc.Chunk) (int64, error) {
	it, t := c.Iterator(nil), int64(math.MinInt64)
	for it.Next() != chunkenc.ValNone {
		t = it.AtT()
	}
	return t, it.Err()
}

func (s *chunkSet) At() storeapi.Series { return s.cur }

func (s *chunkSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.set.Err()
}

func (s *chunkSet) Warnings() storeapi.Warnings {
	var ws storeapi.Warnings
	for _, err := range s.set.Warnings().AsErrors() {
		ws = append(ws, storeapi.Warning{Text: err.Error()})
	}
	return ws
}

func (s *chunkSet) Stats() storeapi.Stats { return s.stats }
func (s *chunkSet) Close() error          { return nil }
