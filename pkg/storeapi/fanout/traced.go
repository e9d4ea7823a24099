package fanout

import (
	"time"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// tracedSet notes in the trace of a selection what the answer of a store costs.
type tracedSet struct {
	storeapi.SeriesSet
	trace *storeapi.TracedSelect
	index int
	begin time.Time
	cost  storeapi.TracedStore
	ended bool
}

// newTracedSet traces a set for which the reader waits since begin.
func newTracedSet(set storeapi.SeriesSet, trace *storeapi.TracedSelect, index int, begin time.Time) *tracedSet {
	return &tracedSet{SeriesSet: set, trace: trace, index: index, begin: begin, cost: storeapi.TracedStore{Waited: time.Since(begin)}}
}

// Next implements storeapi.SeriesSet.
func (s *tracedSet) Next() bool {
	before := time.Now()
	more := s.SeriesSet.Next()
	s.cost.Waited += time.Since(before)
	if !more {
		s.cost.Ended = s.Err() == nil
		s.end()
		return false
	}
	at := s.At()
	s.cost.Series++
	s.cost.Chunks += int64(len(at.Chunks))
	for i := range at.Chunks {
		s.cost.Bytes += chunkBytes(&at.Chunks[i])
	}
	return true
}

func chunkBytes(c *storeapi.Chunk) int64 {
	n := len(c.Raw.Bytes)
	if a := c.Aggr; a != nil {
		n += len(a.Count.Bytes) + len(a.Sum.Bytes) + len(a.Min.Bytes) + len(a.Max.Bytes) + len(a.Counter.Bytes)
	}
	return int64(n)
}

// end notes the cost, once.
func (s *tracedSet) end() {
	if s.ended {
		return
	}
	s.ended = true
	s.cost.Duration, s.cost.Stats = time.Since(s.begin), s.Stats()
	if err := s.Err(); err != nil {
		s.cost.Failure = cut(err.Error())
	}
	s.trace.End(s.index, s.cost)
}

// Close implements storeapi.SeriesSet. The statistics of a store that did not send all
// are not known.
func (s *tracedSet) Close() error {
	err := s.SeriesSet.Close()
	s.end()
	return err
}
