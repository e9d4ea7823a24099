package store

import (
	"errors"
	"time"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// limits are those of one answer.
func (g *Gateway) limits() limit.Answer {
	return limit.Answer{
		Series:  lower(g.cfg.RequestSeries, g.cfg.TouchedSeries),
		Samples: lower(g.cfg.RequestSamples, g.cfg.SeriesSamples),
	}
}

// recycler returns the memory of chunks to other requests, once the reader of the
// answer has asked for it.
type recycler struct {
	bucketblock.Recycler
	on bool
}

// blockSet is the series of one block with the labels and in the order of the
// answer.
type blockSet struct {
	storeapi.SeriesSet // block, in the order of the answer once begun
	block              *bucketblock.Set
	query              *bucketblock.Query
	recycler           *recycler
	begun              bool
}

// Next moves to the next series. The first call decides about the order, which
// depends on the labels that the series have in the block.
func (s *blockSet) Next() bool {
	if !s.begun {
		s.begun = true
		if !s.block.Final() {
			order := storeapi.Reorder{External: s.query.External, Drop: s.query.Drop, Order: storeapi.NewOrder(s.query.SortWithout), Own: s.block.Carries}
			s.SeriesSet = order.Apply(s.block) // holds series back
		} else if s.recycler.on {
			s.block.Recycle(&s.recycler.Recycler)
		}
	}
	return s.SeriesSet.Next()
}

// gatewaySet is the answer to a Select: it counts, and ends at the limits.
type gatewaySet struct {
	storeapi.SeriesSet
	g       *Gateway
	r       *storeapi.Request
	blocks  []blockRequest
	account *pagecache.Account
	place   *place
	pruned  storeapi.Stats
	begin   time.Time
	counter limit.Counter
	calls   uint // of Next
	// Nothing between this set and the block sets may hold chunks of a series beyond
	// the call of Next that returned it.
	recycler *recycler
	err      error
	cut      bool // by the request's own limit
}

// noteEvery is how often the set notes that its client reads, in calls of Next: the clock
// costs as much as a small series.
const noteEvery = 4

// Recycle implements storeapi.RecyclingSet.
func (s *gatewaySet) Recycle() { s.recycler.on = true }

// Lend implements storeapi.LendingSet.
func (s *gatewaySet) Lend() {
	s.recycler.on = true
	s.recycler.Lend()
}

// Spent implements storeapi.LendingSet.
func (s *gatewaySet) Spent() storeapi.Memory {
	if m := s.recycler.Spent(); len(m) > 0 {
		return m
	}
	return nil
}

// Queued implements storeapi.QueuedSet.
func (s *gatewaySet) Queued() bool { return s.place.queued() }

func (s *gatewaySet) Next() bool {
	s.recycler.Flush() // batches of series before the last one
	if s.err != nil || s.cut {
		return false
	}
	if s.calls++; s.calls%noteEvery == 1 {
		now := time.Now()
		s.account.Read(now)
		s.place.readAgain(now)
	}
	if s.r.Limit > 0 && s.counter.Series() >= int64(s.r.Limit) {
		s.cut = true
		return false
	}
	if !s.SeriesSet.Next() {
		return false
	}
	at := s.SeriesSet.At()
	s.err = s.counter.Add(at.Labels, len(at.Chunks))
	return s.err == nil
}

func (s *gatewaySet) Err() error {
	if s.err != nil || s.cut {
		return s.err
	}
	return s.SeriesSet.Err()
}

func (s *gatewaySet) Stats() storeapi.Stats {
	st := s.SeriesSet.Stats()
	st.Add(s.pruned)
	st.MergedSeries, st.MergedChunks = s.counter.Series(), s.counter.Chunks()
	st.Duration = time.Since(s.begin)
	return st
}

func (s *gatewaySet) Close() error {
	if errors.Is(s.Err(), limit.ErrExceeded) {
		s.g.m.limited.Inc()
	}
	err := s.SeriesSet.Close()
	s.place.leave()
	s.recycler.Close()
	st := s.SeriesSet.Stats()
	s.g.m.seriesPerRequest.Observe(float64(s.counter.Series()))
	for data, n := range map[string][2]int64{
		dataPostings: {st.PostingsTouched, st.PostingsFetches},
		dataSeries:   {st.SeriesTouched, st.SeriesFetches},
		dataChunks:   {st.ChunksTouched, st.ChunksFetches},
	} {
		s.g.m.touched.WithLabelValues(data).Add(float64(n[0]))
		s.g.m.fetched.WithLabelValues(data).Add(float64(n[1]))
	}
	s.g.release(s.blocks)
	s.blocks = nil
	return err
}
