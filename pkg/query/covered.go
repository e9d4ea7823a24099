package query

import (
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// coverPause is how long queries ask for all chunks after one needed a chunk that a
// store had left out: that query is evaluated twice, and the next ones may need it too.
const coverPause = time.Minute

// covering decides whether queries allow stores to leave out chunks. It may be used
// concurrently.
type covering struct {
	// pausedUntil is in Unix milliseconds.
	pausedUntil atomic.Int64
}

// ask returns what a selection allows stores to leave out; nil is nothing. Only a
// query that can be evaluated again does so, and only for coverage, which decodes a
// chunk of another replica around holes only.
func (c *covering) ask(s *selection, v *view) *storeapi.Covered {
	if s.reading == nil || s.reading.whole.Load() || v.plan != nil || v.dedup != dedup.FuncCoverage ||
		time.Now().UnixMilli() < c.pausedUntil.Load() {
		return nil
	}
	replicas := slices.DeleteFunc(slices.Clone(s.group.drop), func(name string) bool { return slices.Contains(s.group.ring, name) })
	if len(replicas) == 0 {
		return nil
	}
	v.missed = func() {
		s.reading.whole.Store(true)
		c.pausedUntil.Store(time.Now().Add(coverPause).UnixMilli())
	}
	return &storeapi.Covered{Replicas: replicas, Before: math.MaxInt64}
}

// checked returns err. If it is that of a chunk that was left out, the query is
// evaluated once more with all chunks.
func (v *view) checked(err error) error {
	if v.missed != nil && errors.Is(err, xorcolumn.ErrPlaceholder) {
		v.missed()
	}
	return err
}
