package storeapi

import (
	"errors"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// Cut is the part of a set that an answer consists of. The zero value is all.
type Cut struct {
	// Shard, if not nil, keeps the series that belong to it. Their label sets must
	// be complete: external labels added, replica labels removed.
	Shard *Shard
	// Limit ends the set after that many different label sets; 0 means no limit.
	// Equal label sets that follow each other count once, here and in Bounds.
	Limit int
	// Bounds fails the set, with a *limit.Error, where the rest has more.
	Bounds Bounds
	// OnClose, if not nil, is called after Close of the set.
	OnClose func() error
}

// Apply returns the part of set. It owns set.
func (c Cut) Apply(set SeriesSet) SeriesSet {
	if c.Shard != nil && c.Shard.Total < 1 {
		c.Shard = nil
	}
	if c.Shard == nil && c.Limit <= 0 && c.Bounds == (Bounds{}) && c.OnClose == nil {
		return set
	}
	return &cutSet{SeriesSet: set, cut: c, counter: limit.Counter{Max: limit.Answer(c.Bounds)}}
}

type cutSet struct {
	SeriesSet
	cut     Cut
	counter limit.Counter
	ended   bool
	err     error
	buf     []byte
}

func (s *cutSet) Next() bool {
	for !s.ended && s.SeriesSet.Next() {
		at := s.SeriesSet.At()
		if s.cut.Shard != nil {
			var ok bool
			if ok, s.buf = s.cut.Shard.Matches(at.Labels, s.buf); !ok {
				continue
			}
		}
		err := s.counter.Add(at.Labels, len(at.Chunks))
		if s.cut.Limit > 0 && s.counter.Series() > int64(s.cut.Limit) {
			break
		}
		if err != nil {
			s.err = err
			break
		}
		return true
	}
	s.ended = true
	return false
}

func (s *cutSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}

func (s *cutSet) Close() error {
	err := s.SeriesSet.Close()
	if s.cut.OnClose != nil {
		err = errors.Join(err, s.cut.OnClose())
	}
	return err
}
