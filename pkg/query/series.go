package query

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// view says how the chunks of all series of a selection become samples.
type view struct {
	// mint and maxt bound the samples, inclusive.
	mint, maxt int64
	aggrs      []storeapi.Aggregate
	// dedup merges replicas; empty means that there are none to merge.
	dedup dedup.Func
	// counter says that the samples are read as a counter.
	counter bool
	// plan says how downsampled data is read; nil reads it as aggrs say.
	plan *selectorPlan
	// lookback is how long a raw sample is taken for alive, in milliseconds; 0
	// leaves that to the engine.
	lookback int64
}

// series implements storage.Series.
type series struct {
	view *view
	lset labels.Labels
	// sources are in the order of their labels, so that the first is preferred
	// in every query.
	sources []source
}

func (s *series) Labels() labels.Labels { return s.lset }

// Iterator returns the samples of the series: each source becomes a stream of
// samples by the aggregates that the function needs, and the streams are merged.
func (s *series) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	if len(s.sources) == 1 {
		return s.stream(s.sources[0].chunks)
	}
	var grid int64
	if s.view.plan != nil && s.view.counter {
		// Samples may be as far apart as those of the coarsest source.
		grid = s.coarsest(s.view.plan.limit)
	}
	replicas := make([]dedup.Replica, len(s.sources))
	for i, src := range s.sources {
		replicas[i] = dedup.Replica{Samples: s.stream(src.chunks), Interval: max(grid, interval(src.chunks))}
	}
	return s.view.dedup.Merge(replicas, s.view.counter)
}

// maxLayers bounds the chunks of one source that overlap at one time. Blocks that
// overlap, and the nodes of a ring, make some dozens at most; a store that repeats a
// series makes as many as it likes, each with an iterator of its own.
const maxLayers = 1000

// failed is an iterator without samples, with an error.
type failed struct {
	chunkenc.Iterator
	err error
}

// Err implements chunkenc.Iterator.
func (f failed) Err() error { return f.err }

// stream is one source. Chunks that overlap are of blocks or nodes that each may
// have samples that others lack: all count. Raw data beside downsampled data of
// the same time has the same samples, so one of the two is read.
func (s *series) stream(chunks []storeapi.Chunk) chunkenc.Iterator {
	raw := allRaw(chunks)
	if !raw && !allAggregates(chunks) {
		return s.samples(chunks)
	}
	layers := dedup.Split(chunks, span, maxLayers)
	if layers == nil {
		return failed{chunkenc.NewNopIterator(), fmt.Errorf("%w: series %s has more than %d chunks of one source at one time; a store repeats it, or its blocks need to be compacted",
			limit.ErrExceeded, s.lset, maxLayers)}
	}
	if len(layers) == 1 {
		return s.samples(chunks)
	}
	parts := make([]dedup.Replica, len(layers))
	for i, layer := range layers {
		parts[i] = dedup.Replica{Samples: s.samples(layer), Interval: interval(layer)}
	}
	if !raw && s.view.counter {
		// Each layer has counted its resets by itself, on a level of its own.
		return dedup.FuncPenalty.Merge(parts, true)
	}
	return dedup.Union(parts)
}

// interval is the time between two samples, or windows, of a source.
func interval(chunks []storeapi.Chunk) int64 {
	return dedup.Interval(len(chunks), func(i int) (mint, maxt int64, samples int) {
		return chunks[i].MinTime, chunks[i].MaxTime, numSamples(&chunks[i])
	})
}

// numSamples reads the number of samples from the header of a chunk.
func numSamples(c *storeapi.Chunk) int {
	if c.Aggr != nil {
		return aggr.NumSamples(c.Aggr)
	}
	if len(c.Raw.Bytes) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(c.Raw.Bytes))
}

func span(c storeapi.Chunk) (int64, int64) { return c.MinTime, c.MaxTime }

// samples are those of chunks of one source that do not overlap, or that are of
// several resolutions.
//
// Counter resets are taken out only where downsampled chunks need it. Raw
// counters go to PromQL as they are, for it handles their resets itself, knows
// better where a counter started, and counts resets.
func (s *series) samples(chunks []storeapi.Chunk) chunkenc.Iterator {
	aggrs := s.view.aggrs
	if p := s.view.plan; p != nil && (p.count || !s.allRaw()) {
		return s.planned(chunks)
	}
	if len(aggrs) == 1 && aggrs[0] == storeapi.AggregateCounter && allRaw(chunks) {
		aggrs = []storeapi.Aggregate{storeapi.AggregateRaw}
	}
	if allXOR(chunks) {
		return dedup.NewFloats(xorChunks(chunks), dedup.Bounds{MinTime: s.view.mint, MaxTime: s.view.maxt}, nil)
	}
	return &bounded{Iterator: aggr.SeriesIterator(chunks, aggrs), mint: s.view.mint, maxt: s.view.maxt}
}

// planned is one replica of a series that has downsampled chunks, or whose
// samples are counted. The distance of the samples of a counter is the same for
// all replicas and all of the time.
func (s *series) planned(chunks []storeapi.Chunk) chunkenc.Iterator {
	p := s.view.plan
	view := aggr.View{Aggregates: p.aggrs, Count: p.count, Range: p.span > 0, Middle: p.fn.Middle && p.span > 0}
	grid := s.coarsest(p.limit)
	if p.spread > 0 && s.coarsest(math.MaxInt64) > p.limit {
		if view.Limit, view.Spread = p.limit, p.spread; grid > 0 {
			view.Spread = min(p.spread, grid)
		}
		grid = max(grid, view.Spread)
	}
	if view.Range && p.fn.Spaced {
		view.Grid = grid
	}
	return &bounded{Iterator: view.Iterator(chunks), mint: s.view.mint, maxt: s.view.maxt}
}

// coarsest is the coarsest resolution of any source that is at most limit.
func (s *series) coarsest(limit int64) (r int64) {
	for _, src := range s.sources {
		r = max(r, aggr.CoarsestResolution(src.chunks, limit))
	}
	return r
}

func (s *series) allRaw() bool {
	return !slices.ContainsFunc(s.sources, func(src source) bool { return !allRaw(src.chunks) })
}

// xorChunks are chunks that are all raw floats, as those of most series.
type xorChunks []storeapi.Chunk

func (c xorChunks) Len() int { return len(c) }

func (c xorChunks) Chunk(i int) (mint, maxt int64, payload []byte) {
	return c[i].MinTime, c[i].MaxTime, c[i].Raw.Bytes
}

func allXOR(chunks []storeapi.Chunk) bool {
	for i := range chunks {
		if chunks[i].Aggr != nil || chunks[i].Raw.Encoding != chunkenc.EncXOR {
			return false
		}
	}
	return true
}

func allRaw(chunks []storeapi.Chunk) bool {
	for i := range chunks {
		if chunks[i].Aggr != nil {
			return false
		}
	}
	return true
}

func allAggregates(chunks []storeapi.Chunk) bool {
	for i := range chunks {
		if chunks[i].Aggr == nil {
			return false
		}
	}
	return true
}
