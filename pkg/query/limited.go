package query

import (
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// limitedSet ends with an error where a limit is passed.
type limitedSet struct {
	storeapi.SeriesSet
	limit          limited
	series, chunks uint64
	err            error
}

func (s *limitedSet) Next() bool {
	if s.err != nil || !s.SeriesSet.Next() {
		return false
	}
	s.series++
	s.chunks += uint64(len(s.At().Chunks))
	switch {
	case s.limit.series > 0 && s.series > s.limit.series:
		s.err = fmt.Errorf("%w: the request matches more than %d series", storeapi.ErrLimit, s.limit.series)
	case s.limit.limitChunks && s.chunks > s.limit.chunks:
		s.err = fmt.Errorf("%w: the request reads more than %d samples", storeapi.ErrLimit, s.limit.chunks*samplesPerChunk)
	}
	return s.err == nil
}

func (s *limitedSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}
