package query

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/dedup"
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
	// free can be used for new iterators. The engine evaluates one series after
	// the other and gives back the iterator of the last one.
	free []*dedup.Floats
}

func (v *view) reclaim(old chunkenc.Iterator) { v.free = dedup.Reclaim(old, v.free[:0]) }

func (v *view) reused() *dedup.Floats {
	n := len(v.free)
	if n == 0 {
		return nil
	}
	f := v.free[n-1]
	v.free = v.free[:n-1]
	return f
}

// series implements storage.Series.
type series struct {
	view   *view
	lset   labels.Labels
	chunks []storeapi.Chunk
}

func (s *series) Labels() labels.Labels { return s.lset }

// Iterator returns the samples of the series: chunks that overlap are taken
// for replicas, each becomes a stream of samples by the aggregates that the
// function needs, and the streams are merged.
func (s *series) Iterator(old chunkenc.Iterator) chunkenc.Iterator {
	s.view.reclaim(old)
	v := s.view
	if v.dedup == "" {
		return s.copies()
	}
	if allRaw(s.chunks) {
		groups := dedup.Copies(s.chunks, dedup.Chunks[storeapi.Chunk]{Span: span, Samples: rawSamples})
		if groups != nil {
			return s.joinCopies(groups)
		}
	}
	replicas := dedup.Split(s.chunks, span)
	if len(replicas) == 1 {
		return s.samples(replicas[0], false)
	}
	its := make([]chunkenc.Iterator, len(replicas))
	for i, chunks := range replicas {
		its[i] = s.samples(chunks, true)
	}
	return v.dedup.Merge(its, v.counter)
}

// copies is the series when there are no replicas to merge. Chunks that overlap
// nevertheless are copies of one series, and each may have what others lack.
func (s *series) copies() chunkenc.Iterator {
	if !allRaw(s.chunks) {
		return s.samples(s.chunks, false)
	}
	parts := dedup.Split(s.chunks, span)
	its := make([]chunkenc.Iterator, len(parts))
	for i, chunks := range parts {
		its[i] = s.samples(chunks, false)
	}
	return dedup.FuncChain.Merge(its, false)
}

// joinCopies merges a series that a hash ring has stored several times: every
// sample that any copy has is taken, and a choice is made only between
// different streams.
func (s *series) joinCopies(groups [][]storeapi.Chunk) chunkenc.Iterator {
	streams := dedup.Split(groups, func(g []storeapi.Chunk) (mint, maxt int64) {
		mint, maxt = g[0].MinTime, g[0].MaxTime
		for _, c := range g[1:] {
			maxt = max(maxt, c.MaxTime)
		}
		return mint, maxt
	})
	its := make([]chunkenc.Iterator, len(streams))
	for i, stream := range streams {
		chunks := slices.Concat(stream...)
		slices.SortStableFunc(chunks, func(a, b storeapi.Chunk) int { return cmp.Compare(a.MinTime, b.MinTime) })
		var copies []chunkenc.Iterator
		for _, c := range dedup.Split(chunks, span) {
			copies = append(copies, s.samples(c, len(streams) > 1))
		}
		its[i] = dedup.FuncChain.Merge(copies, false)
	}
	return s.view.dedup.Merge(its, s.view.counter)
}

func rawSamples(c storeapi.Chunk) chunkenc.Iterator {
	return aggr.SeriesIterator([]storeapi.Chunk{c}, []storeapi.Aggregate{storeapi.AggregateRaw})
}

func span(c storeapi.Chunk) (int64, int64) { return c.MinTime, c.MaxTime }

// samples is one replica.
//
// Counter resets are taken out only where downsampled chunks need it. Raw
// counters go to PromQL as they are, for it handles their resets itself, knows
// better where a counter started, and counts resets.
func (s *series) samples(chunks []storeapi.Chunk, merged bool) chunkenc.Iterator {
	aggrs := s.view.aggrs
	if p := s.view.plan; p != nil && (p.count || !allRaw(s.chunks)) {
		return s.planned(chunks)
	}
	if len(aggrs) == 1 && aggrs[0] == storeapi.AggregateCounter && allRaw(chunks) {
		aggrs = []storeapi.Aggregate{storeapi.AggregateRaw}
	}
	skipStale := merged && s.view.counter
	if allXOR(chunks) {
		return dedup.NewFloats(xorChunks(chunks), dedup.Bounds{MinTime: s.view.mint, MaxTime: s.view.maxt, SkipStale: skipStale}, s.view.reused())
	}
	it := aggr.SeriesIterator(chunks, aggrs)
	if skipStale {
		it = &withoutStale{Iterator: it}
	}
	return &bounded{Iterator: it, mint: s.view.mint, maxt: s.view.maxt}
}

// planned is one replica of a series that has downsampled chunks, or whose
// samples are counted. The distance of the samples of a counter is the same for
// all replicas and all of the time.
func (s *series) planned(chunks []storeapi.Chunk) chunkenc.Iterator {
	p := s.view.plan
	view := aggr.View{Aggregates: p.aggrs, Count: p.count, Range: p.span > 0}
	if view.Range && len(p.aggrs) == 1 && p.aggrs[0] == storeapi.AggregateCounter {
		view.Grid = aggr.CoarsestResolution(s.chunks, p.limit)
	}
	return &bounded{Iterator: view.Iterator(chunks), mint: s.view.mint, maxt: s.view.maxt}
}

// xorChunks are chunks that are all raw floats, which is what most series are.
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
