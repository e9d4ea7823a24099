package query

import (
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
func (s *series) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	v := s.view
	if v.dedup == "" {
		return s.samples(s.chunks, false)
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

func span(c storeapi.Chunk) (int64, int64) { return c.MinTime, c.MaxTime }

// samples is one replica.
//
// Counter resets are taken out only where downsampled chunks need it. Raw
// counters go to PromQL as they are, for it handles their resets itself, knows
// better where a counter started, and counts resets.
func (s *series) samples(chunks []storeapi.Chunk, merged bool) chunkenc.Iterator {
	aggrs := s.view.aggrs
	if len(aggrs) == 1 && aggrs[0] == storeapi.AggregateCounter && allRaw(chunks) {
		aggrs = []storeapi.Aggregate{storeapi.AggregateRaw}
	}
	it := aggr.SeriesIterator(chunks, aggrs)
	if merged && s.view.counter {
		it = &withoutStale{Iterator: it}
	}
	return &bounded{Iterator: it, mint: s.view.mint, maxt: s.view.maxt}
}

func allRaw(chunks []storeapi.Chunk) bool {
	for i := range chunks {
		if chunks[i].Aggr != nil {
			return false
		}
	}
	return true
}
