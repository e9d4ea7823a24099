package storeapi

import "github.com/prometheus/prometheus/model/labels"

// LimitSet ends set after n different label sets; n <= 0 means no limit. Equal
// label sets that follow each other count once.
func LimitSet(set SeriesSet, n int) SeriesSet {
	if n <= 0 {
		return set
	}
	return &limitSet{SeriesSet: set, left: n}
}

type limitSet struct {
	SeriesSet
	left    int
	last    labels.Labels
	started bool
}

func (s *limitSet) Next() bool {
	if !s.SeriesSet.Next() {
		return false
	}
	l := s.SeriesSet.At().Labels
	if s.started && labels.Equal(l, s.last) {
		return true
	}
	if s.left == 0 {
		return false
	}
	s.left--
	s.last, s.started = l, true
	return true
}

// ShardSet keeps the series of set that belong to the shard. Their label sets
// must be complete: external labels added, replica labels removed.
func ShardSet(set SeriesSet, shard *Shard) SeriesSet {
	if shard == nil || shard.Total < 1 {
		return set
	}
	return &shardSet{SeriesSet: set, shard: shard}
}

type shardSet struct {
	SeriesSet
	shard *Shard
	buf   []byte
}

func (s *shardSet) Next() bool {
	for s.SeriesSet.Next() {
		var ok bool
		if ok, s.buf = s.shard.Matches(s.SeriesSet.At().Labels, s.buf); ok {
			return true
		}
	}
	return false
}
