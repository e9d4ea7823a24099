package query

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
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
	// mode says how the values are read.
	mode dedup.Mode
	// plan says how downsampled data is read; nil reads it as aggrs say.
	plan *selectorPlan
	// lookback is how long a raw sample is taken for alive, in milliseconds; 0
	// leaves that to the engine.
	lookback int64
	// decoders are the *decoder of earlier series.
	decoders sync.Pool
}

// bounds are those of the samples of a series with one source.
func (v *view) bounds() dedup.Bounds { return dedup.Bounds{MinTime: v.mint, MaxTime: v.maxt} }

// merging says how replicas are merged. The samples of a replica shortly before the first
// time decide whether there is a hole.
func (v *view) merging() dedup.Options {
	b := v.bounds()
	if v.dedup == dedup.FuncCoverage && b.MinTime > math.MinInt64+v.lead() {
		b.MinTime -= v.lead()
	}
	return dedup.Options{Mode: v.mode, Bounds: b, Lead: v.lead()}
}

// lead is how much earlier than the first time the samples of replicas are read, for
// dedup.Lead: the windows of downsampled data are up to an hour long.
func (v *view) lead() int64 {
	if v.plan == nil {
		return dedup.Lead
	}
	return 3 * aggr.Resolution1h
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
		return s.stream(s.sources[0].chunks, s.view.bounds())
	}
	o := s.merging()
	it := s.view.dedup.Merge(s.replicas(o.Bounds, &replicaMemory{}), o)
	if o.Bounds.MinTime == s.view.mint {
		return it
	}
	return &bounded{Iterator: it, mint: s.view.mint, maxt: s.view.maxt}
}

// merging says how the sources are merged.
func (s *series) merging() dedup.Options {
	o := s.view.merging()
	if o.Mode == dedup.Counters && s.planned() {
		o.Mode = dedup.Totals // aggr adds up the resets of each
	}
	return o
}

// replicas are the sources, to be merged, in the memory given.
func (s *series) replicas(b dedup.Bounds, m *replicaMemory) []dedup.Replica {
	var grid int64
	if s.view.plan != nil && s.view.mode == dedup.Counters {
		// Samples may be as far apart as those of the coarsest source.
		grid = s.coarsest(s.view.plan.limit)
	}
	out, chunks := m.take(len(s.sources))
	for i, src := range s.sources {
		r := dedup.Replica{Interval: interval(src.chunks), Floor: grid}
		if s.plain(src.chunks) {
			chunks[i] = src.chunks
			r.Chunks = &chunks[i]
		} else {
			r.Samples = s.stream(src.chunks, b)
		}
		out[i] = r
	}
	return out
}

// plain says whether chunks are read as they are, as floats that follow each other.
func (s *series) plain(chunks []storeapi.Chunk) bool {
	for i := 1; i < len(chunks); i++ {
		if chunks[i].MinTime <= chunks[i-1].MaxTime {
			return false
		}
	}
	return allFloats(chunks) && !s.planned()
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
func (s *series) stream(chunks []storeapi.Chunk, b dedup.Bounds) chunkenc.Iterator {
	raw := allRaw(chunks)
	if !raw && !allAggregates(chunks) {
		return s.samples(chunks, b)
	}
	layers := dedup.Split(chunks, span, maxLayers)
	if layers == nil {
		return failed{chunkenc.NewNopIterator(), fmt.Errorf("%w: series %s has more than %d chunks of one source at one time; a store repeats it, or its blocks need to be compacted",
			limit.ErrExceeded, s.lset, maxLayers)}
	}
	if len(layers) == 1 {
		return s.samples(chunks, b)
	}
	wide := b
	if raw && b.MinTime > math.MinInt64+dedup.Lead {
		wide.MinTime -= dedup.Lead
	}
	parts := make([]dedup.Replica, len(layers))
	for i, layer := range layers {
		parts[i] = dedup.Replica{Samples: s.samples(layer, wide), Interval: interval(layer)}
	}
	if !raw && s.view.mode == dedup.Counters {
		// Each layer has counted its resets by itself, on a level of its own.
		return dedup.FuncCoverage.Merge(parts, dedup.Options{Mode: dedup.Totals, Bounds: b, Lead: s.view.lead()})
	}
	return &bounded{Iterator: dedup.Union(parts, wide), mint: b.MinTime, maxt: b.MaxTime}
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
func (s *series) samples(chunks []storeapi.Chunk, b dedup.Bounds) chunkenc.Iterator {
	aggrs := s.view.aggrs
	if s.planned() {
		return s.windows(chunks, b)
	}
	if len(aggrs) == 1 && aggrs[0] == storeapi.AggregateCounter && allRaw(chunks) {
		aggrs = []storeapi.Aggregate{storeapi.AggregateRaw}
	}
	if allFloats(chunks) {
		return dedup.NewFloats(floatChunks(chunks), b, nil)
	}
	return &bounded{Iterator: aggr.SeriesIterator(chunks, aggrs), mint: b.MinTime, maxt: b.MaxTime}
}

// planned says whether the plan of the selector decides how the series is read: it has
// downsampled chunks, or its samples are counted.
func (s *series) planned() bool {
	p := s.view.plan
	return p != nil && (p.count || !s.allRaw())
}

// windows are those of one replica of a planned series. The distance of the samples of
// a counter is the same for all replicas and all of the time.
func (s *series) windows(chunks []storeapi.Chunk, b dedup.Bounds) chunkenc.Iterator {
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
	return &bounded{Iterator: view.Iterator(chunks), mint: b.MinTime, maxt: b.MaxTime}
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

// floatChunks are chunks that are all raw floats, as those of most series.
type floatChunks []storeapi.Chunk

func (c floatChunks) Len() int { return len(c) }

func (c floatChunks) Chunk(i int) dedup.FloatChunk {
	s := &c[i]
	return dedup.FloatChunk{MinTime: s.MinTime, MaxTime: s.MaxTime, Payload: s.Raw.Bytes, Columns: s.Raw.Encoding == columnchunk.Encoding}
}

func allFloats(chunks []storeapi.Chunk) bool {
	for i := range chunks {
		if e := chunks[i].Raw.Encoding; chunks[i].Aggr != nil || e != chunkenc.EncXOR && e != columnchunk.Encoding {
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
