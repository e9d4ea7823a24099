package storeapi

// EmptySet returns a set without series.
func EmptySet() SeriesSet { return &sliceSet{} }

// ErrSet returns a set that has no series but fails with err.
func ErrSet(err error) SeriesSet { return &sliceSet{err: err} }

// WarnSet returns a set that has no series but the given warnings.
func WarnSet(ws ...Warning) SeriesSet { return &sliceSet{warnings: ws} }

// NewSliceSet returns a set of series that are in memory and in order, with
// warnings.
func NewSliceSet(series []Series, ws ...Warning) SeriesSet {
	return &sliceSet{series: series, warnings: ws}
}

type sliceSet struct {
	series   []Series
	next     int
	err      error
	warnings Warnings
}

func (s *sliceSet) Next() bool {
	if s.next >= len(s.series) {
		return false
	}
	s.next++
	return true
}

func (s *sliceSet) At() Series         { return s.series[s.next-1] }
func (s *sliceSet) Err() error         { return s.err }
func (s *sliceSet) Warnings() Warnings { return s.warnings }
func (s *sliceSet) Stats() Stats       { return Stats{SeriesFetched: int64(len(s.series))} }
func (s *sliceSet) Close() error       { return nil }
