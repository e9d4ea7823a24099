// Package mask hides the samples of deletion requests in the answers of a Store.
package mask

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Store is a Store without the samples of active requests, and without the series that
// have no others. Requests that no deletion applies to pass unchanged.
//
// LabelNames and LabelValues are those of the store below: they may name a series that
// is hidden, until its data is removed.
type Store struct {
	storeapi.Store
	requests func(now time.Time) (set *deletion.Set, known bool)
}

// New hides the requests of a poller. With strict, the store answers with an error
// until the first poll was complete; without, it hides nothing until then.
func New(below storeapi.Store, p *deletion.Poller, strict bool) *Store {
	return &Store{Store: below, requests: func(now time.Time) (*deletion.Set, bool) {
		return p.Active(now), p.Polled() || !strict
	}}
}

// errUnknown ends answers before the requests are known.
var errUnknown = errorid.Sentinel(errorid.DeletionsUnknown, "deletion requests of the bucket were not read yet")

// Select implements storeapi.Store.
func (s *Store) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	set, known := s.requests(time.Now())
	if !known {
		return storeapi.ErrSet(errUnknown)
	}
	scope := set.For(target(r))
	if scope == nil {
		return s.Store.Select(ctx, r)
	}
	below := *r
	below.Limit = 0       // hidden series do not count
	below.Columns = false // masks are for chunks of a TSDB
	// Deletions see all labels. Removing labels here costs holding series back.
	drop := slices.Clone(r.WithoutReplicaLabels)
	if slices.ContainsFunc(drop, scope.Names) {
		below.WithoutReplicaLabels, below.Shard = nil, nil
	} else {
		drop = nil
	}
	var out storeapi.SeriesSet
	if r.SkipChunks {
		out = s.withoutHidden(ctx, &below, scope)
	} else {
		out = &maskedSet{SeriesSet: s.Store.Select(ctx, &below), scope: scope}
	}
	if len(drop) > 0 {
		out = storeapi.Reorder{Drop: drop, Order: r.Order(), Own: func(string) bool { return true }}.Apply(out)
		return storeapi.Cut{Shard: r.Shard, Limit: r.Limit}.Apply(out)
	}
	return storeapi.Cut{Limit: r.Limit}.Apply(out)
}

// target is the data of a request. A window of downsampled data goes with any deleted
// sample in it, which may be before or after the time range.
func target(r *storeapi.Request) deletion.Target {
	t := deletion.Target{MinTime: r.MinTime, MaxTime: r.MaxTime, Matchers: r.Matchers}
	if t.MinTime > math.MinInt64+aggr.Resolution1h {
		t.MinTime -= aggr.Resolution1h
	}
	if t.MaxTime < math.MaxInt64-aggr.Resolution1h {
		t.MaxTime += aggr.Resolution1h
	}
	return t
}

// maskedSet removes hidden samples, and series without others.
type maskedSet struct {
	storeapi.SeriesSet
	scope *deletion.Scope
	// within, if not nil, is the request outside whose time range raw samples are
	// removed, too.
	within *storeapi.Request
	cur    storeapi.Series
	err    error
}

// Next implements storeapi.SeriesSet.
func (s *maskedSet) Next() bool {
	for s.err == nil && s.SeriesSet.Next() {
		s.cur = s.SeriesSet.At()
		deleted := s.scope.Deleted(s.cur.Labels)
		if len(deleted) == 0 {
			return true
		}
		if s.cur.Chunks, s.err = chunks(s.cur.Chunks, deleted, s.within); s.err != nil {
			s.err = fmt.Errorf("hide deleted samples of series %s: %w", s.cur.Labels, s.err)
			return false
		}
		if len(s.cur.Chunks) > 0 {
			return true
		}
	}
	return false
}

// At implements storeapi.SeriesSet.
func (s *maskedSet) At() storeapi.Series { return s.cur }

// Err implements storeapi.SeriesSet.
func (s *maskedSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}

// withoutHidden answers a request for label sets. Of the series that a deletion
// matches, it keeps those that have other samples in the time range, which it finds by
// reading the chunks of these series only.
func (s *Store) withoutHidden(ctx context.Context, r *storeapi.Request, scope *deletion.Scope) storeapi.SeriesSet {
	var rest []storeapi.SeriesSet
	for _, ms := range scope.Matchers() {
		q := *r
		q.SkipChunks = false
		q.Matchers = slices.Concat(r.Matchers, ms)
		rest = append(rest, &maskedSet{SeriesSet: s.Store.Select(ctx, &q), scope: scope, within: r})
	}
	return &labelSet{SeriesSet: s.Store.Select(ctx, r), scope: scope, rest: storeapi.Merge(rest, r.Order()), order: r.Order()}
}

// labelSet is the label sets of a set without those of hidden series.
type labelSet struct {
	storeapi.SeriesSet
	scope *deletion.Scope
	// rest are the series that a deletion matches and that have samples left, in the
	// same order.
	rest  storeapi.SeriesSet
	order storeapi.Order
	// behind is the last series of rest, which is not before the current one.
	behind labels.Labels
	read   bool
	ended  bool
	err    error
}

// Next implements storeapi.SeriesSet.
func (s *labelSet) Next() bool {
	for s.err == nil && s.SeriesSet.Next() {
		lset := s.SeriesSet.At().Labels
		if len(s.scope.Deleted(lset)) == 0 || s.has(lset) {
			return s.err == nil
		}
	}
	return false
}

// has says whether rest has the series.
func (s *labelSet) has(lset labels.Labels) bool {
	for !s.ended && (!s.read || s.order.Compare(s.behind, lset) < 0) {
		if !s.rest.Next() {
			s.ended, s.err = true, s.rest.Err()
			break
		}
		s.behind, s.read = s.rest.At().Labels, true
	}
	return s.err != nil || !s.ended && labels.Equal(s.behind, lset)
}

// Err implements storeapi.SeriesSet.
func (s *labelSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}

// Warnings implements storeapi.SeriesSet.
func (s *labelSet) Warnings() storeapi.Warnings {
	return append(slices.Clone(s.SeriesSet.Warnings()), s.rest.Warnings()...)
}

// Close implements storeapi.SeriesSet.
func (s *labelSet) Close() error { return errors.Join(s.SeriesSet.Close(), s.rest.Close()) }
