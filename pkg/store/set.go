package store

import (
	"errors"
	"time"

	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// samplesPerChunk is what the limit of samples counts for each chunk.
const samplesPerChunk = 120

// limits bound what one request returns; 0 means no bound.
type limits struct{ series, chunks, samples int64 }

func (g *Gateway) limits() limits {
	samples := limit(g.cfg.RequestSamples, g.cfg.SeriesSamples)
	l := limits{series: limit(g.cfg.RequestSeries, g.cfg.TouchedSeries), chunks: samples / samplesPerChunk, samples: samples}
	if samples > 0 {
		l.chunks = max(l.chunks, 1)
	}
	return l
}

// gatewaySet is the answer to a Select: it counts, and ends at the limits.
type gatewaySet struct {
	storeapi.SeriesSet
	g       *Gateway
	r       *storeapi.Request
	blocks  []blockRequest
	account *pagecache.Account
	begin   time.Time
	limits  limits

	series, chunks int64
	err            error
	cut            bool // by the request's own limit
}

func (s *gatewaySet) Next() bool {
	if s.err != nil || s.cut {
		return false
	}
	s.account.Read()
	if s.r.Limit > 0 && s.series >= int64(s.r.Limit) {
		s.cut = true
		return false
	}
	if !s.SeriesSet.Next() {
		return false
	}
	s.series++
	s.chunks += int64(len(s.SeriesSet.At().Chunks))
	switch {
	case s.limits.series > 0 && s.series > s.limits.series:
		s.err = &pagecache.LimitError{What: "series", Limit: "--store.limits.request-series", Value: s.limits.series, Wanted: s.series}
	case s.limits.chunks > 0 && s.chunks > s.limits.chunks:
		s.err = &pagecache.LimitError{
			What: "samples (counting 120 for each chunk)", Limit: "--store.limits.request-samples",
			Value: s.limits.samples, Wanted: s.chunks * samplesPerChunk,
		}
	}
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
	st.MergedSeries, st.MergedChunks = s.series, s.chunks
	st.Duration = time.Since(s.begin)
	return st
}

func (s *gatewaySet) Close() error {
	if errors.Is(s.Err(), storeapi.ErrLimit) {
		s.g.m.limited.Inc()
	}
	err := s.SeriesSet.Close()
	st := s.SeriesSet.Stats()
	s.g.m.seriesPerRequest.Observe(float64(s.series))
	for data, n := range map[string][2]int64{
		"postings": {st.PostingsTouched, st.PostingsFetches},
		"series":   {st.SeriesTouched, st.SeriesFetches},
		"chunks":   {st.ChunksTouched, st.ChunksFetches},
	} {
		s.g.m.touched.WithLabelValues(data).Add(float64(n[0]))
		s.g.m.fetched.WithLabelValues(data).Add(float64(n[1]))
	}
	s.g.release(s.blocks)
	s.blocks = nil
	return err
}
