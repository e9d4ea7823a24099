package sidecar

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/sidecar/blocks"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// Store serves what a Prometheus server holds: persisted blocks from its data
// directory where that is at hand, the rest through its HTTP API. It implements
// storeapi.Store and storeapi.MetadataStore.
type Store struct {
	source *source
	// minTime is the oldest time to serve at a moment.
	minTime func(now time.Time) int64
	limits  storeapi.Bounds
	// blocks is nil when nothing is read directly.
	blocks *blocks.Dir
}

// Info describes the server as of the last look at it.
func (s *Store) Info() storeapi.Info {
	info := storeapi.Info{
		Component: "sidecar",
		MinTime:   s.minTime(time.Now()), MaxTime: math.MaxInt64,
		SupportsSharding: true, SupportsWithoutReplicaLabels: true,
	}
	id, _ := s.source.get()
	if id == nil {
		return info
	}
	info.MinTime = max(info.MinTime, id.minTime)
	info.LabelSets = []labels.Labels{id.external}
	info.TSDBs = []storeapi.TSDBInfo{{Labels: id.external, MinTime: info.MinTime, MaxTime: info.MaxTime}}
	return info
}

// plan is a request in the terms of the Prometheus server.
type plan struct {
	id        *identity
	selection prom.Selection
}

// open says whether there is any time to ask for.
func (p plan) open() bool { return p.selection.MinTime <= p.selection.MaxTime }

// plan translates r. ok is false when the server has nothing to return.
func (s *Store) plan(r *storeapi.Request) (p plan, ok bool, err error) {
	id, err := s.source.current()
	if err != nil {
		return plan{}, false, err
	}
	rest, ok := storeapi.MatchExternal(id.external, r.Matchers)
	p = plan{id: id, selection: prom.Selection{
		MinTime:  max(r.MinTime, s.minTime(time.Now())),
		MaxTime:  r.MaxTime,
		Matchers: rest,
	}}
	return p, ok && p.open(), nil
}

// persisted is the part of a plan that blocks answer. Who gets one releases it.
type persisted struct {
	*blocks.View
	mint, maxt int64
}

// split takes from the plan what the blocks on disk have; nil is nothing.
func (s *Store) split(p plan) (rest plan, part *persisted) {
	if s.blocks == nil {
		return p, nil
	}
	view := s.blocks.Acquire()
	if view == nil {
		return p, nil
	}
	if p.selection.MinTime >= view.End() {
		view.Release()
		return p, nil
	}
	part = &persisted{View: view, mint: p.selection.MinTime, maxt: min(p.selection.MaxTime, view.End()-1)}
	p.selection.MinTime = view.End()
	return p, part
}

func (v *persisted) store(id *identity) *tsdbstore.Store {
	return tsdbstore.New(v.View, tsdbstore.Config{External: func() labels.Labels { return id.external }})
}

// request is r for this part.
func (v *persisted) request(r *storeapi.Request) *storeapi.Request {
	part := *r
	part.MinTime, part.MaxTime = v.mint, v.maxt
	return &part
}

// Select streams the matching series.
func (s *Store) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	p, ok, err := s.plan(r)
	if err != nil {
		return storeapi.ErrSet(err)
	}
	if _, match := storeapi.MatchExternal(p.id.external, r.Matchers); match && len(p.selection.Matchers) == 0 {
		return storeapi.ErrSet(storeapi.ErrNoMatchers)
	}
	if !ok {
		return storeapi.EmptySet()
	}
	var sets []storeapi.SeriesSet
	p, view := s.split(p)
	if view != nil {
		set := view.store(p.id).Select(ctx, view.request(r))
		sets = append(sets, &viewSet{SeriesSet: set, view: view.View})
	}
	if p.open() {
		sets = append(sets, s.remoteSelect(ctx, p, r))
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storeapi.Merge(sets)
	}
	return s.limits.Set(storeapi.LimitSet(storeapi.ShardSet(set, r.Shard), r.Limit))
}

// viewSet releases the view that it reads.
type viewSet struct {
	storeapi.SeriesSet
	view *blocks.View
}

func (s *viewSet) Close() error {
	defer s.view.Release()
	return s.SeriesSet.Close()
}
