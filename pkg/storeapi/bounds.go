package storeapi

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
)

// samplesPerChunk is how many samples a chunk counts for: the number that
// Prometheus aims at.
const samplesPerChunk = 120

// Bounds is how much one answer may have, as the flags
// --store.limits.request-series and --store.limits.request-samples say; 0 means
// no limit. Each chunk counts as 120 samples.
type Bounds struct{ Series, Samples uint64 }

// Set returns set, ended with ErrLimit where it has more than allowed. Equal
// label sets that follow each other count once.
func (b Bounds) Set(set SeriesSet) SeriesSet {
	if b == (Bounds{}) {
		return set
	}
	return &boundedSet{SeriesSet: set, most: b}
}

// Store returns s with each answer to a Select bounded.
func (b Bounds) Store(s Store) Store {
	if b == (Bounds{}) {
		return s
	}
	return boundedStore{Store: s, most: b}
}

type boundedStore struct {
	Store
	most Bounds
}

func (s boundedStore) Select(ctx context.Context, r *Request) SeriesSet {
	return s.most.Set(s.Store.Select(ctx, r))
}

type boundedSet struct {
	SeriesSet
	most Bounds

	series, chunks uint64
	last           labels.Labels
	err            error
}

func (s *boundedSet) Next() bool {
	if s.err != nil || !s.SeriesSet.Next() {
		return false
	}
	at := s.At()
	if s.series == 0 || !labels.Equal(at.Labels, s.last) {
		s.series++
		s.last = at.Labels
	}
	s.chunks += uint64(len(at.Chunks))
	switch m := s.most; {
	case m.Series > 0 && s.series > m.Series:
		s.err = fmt.Errorf("%w: the answer has more than %d series (--store.limits.request-series)", ErrLimit, m.Series)
	case m.Samples > 0 && s.chunks*samplesPerChunk > m.Samples:
		s.err = fmt.Errorf("%w: the answer has more than %d samples, counting %d for each chunk (--store.limits.request-samples)",
			ErrLimit, m.Samples, samplesPerChunk)
	}
	return s.err == nil
}

func (s *boundedSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}
