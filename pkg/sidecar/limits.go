package sidecar

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// samplesPerChunk is how many samples a chunk counts for: the number that
// Prometheus aims at.
const samplesPerChunk = 120

// limits bound one answer; 0 is no limit.
type limits struct{ series, samples uint64 }

// guard makes set fail with ErrLimit when it has more than allowed.
func (l limits) guard(set storeapi.SeriesSet) storeapi.SeriesSet {
	if l.series == 0 && l.samples == 0 {
		return set
	}
	return &guardedSet{SeriesSet: set, limits: l}
}

type guardedSet struct {
	storeapi.SeriesSet
	limits limits

	series, chunks uint64
	last           labels.Labels
	err            error
}

func (s *guardedSet) Next() bool {
	if s.err != nil || !s.SeriesSet.Next() {
		return false
	}
	at := s.At()
	if s.series == 0 || !labels.Equal(at.Labels, s.last) {
		s.series++
		s.last = at.Labels
	}
	s.chunks += uint64(len(at.Chunks))
	switch l := s.limits; {
	case l.series > 0 && s.series > l.series:
		s.err = fmt.Errorf("%w: the answer has more than %d series (--store.limits.request-series)", storeapi.ErrLimit, l.series)
	case l.samples > 0 && s.chunks*samplesPerChunk > l.samples:
		s.err = fmt.Errorf("%w: the answer has more than %d samples (--store.limits.request-samples)", storeapi.ErrLimit, l.samples)
	}
	return s.err == nil
}

func (s *guardedSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}
