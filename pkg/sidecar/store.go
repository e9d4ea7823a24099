package sidecar

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/sidecar/blocks"
	"github.com/hindsight-io/hindsight/pkg/sidecar/outage"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// promStore is the storeapi.Store of a Prometheus server: it reads persisted blocks
// from the data directory of the server, if it may, and the rest through the HTTP
// API.
type promStore struct {
	source *source
	// minTime returns the oldest time to serve at the time now.
	minTime func(now time.Time) int64
	limits  storeapi.Bounds
	answers *lastKnown
	// problems returns those of the external labels; nil without a claim on them.
	problems func() []string
	// blocks and outage are nil without direct reads.
	blocks *blocks.Dir
	outage *outage.Reader
	// metrics is shared with the rest of the sidecar.
	metrics *metrics
}

// ready is nil while the store can answer: Prometheus did at its last check, or its
// data directory can be read in place of it.
func (s *promStore) ready() error {
	id, err := s.source.get()
	if err == nil || s.outage == nil || id == nil || !notAnswering(err) {
		return err
	}
	if s.outage.Check() != nil {
		return err
	}
	return nil
}

// Info describes the server as of its last check.
func (s *promStore) Info() storeapi.Info {
	info := storeapi.Info{
		Component: "sidecar",
		MinTime:   s.minTime(time.Now()), MaxTime: math.MaxInt64,
		SupportsSharding: true, SupportsWithoutReplicaLabels: true, SupportsSortWithout: true,
	}
	id, _ := s.source.get()
	if id == nil {
		return info
	}
	info.MinTime = max(info.MinTime, id.minTime)
	info.LabelSets = []labels.Labels{id.external}
	info.TSDBs = []storeapi.TSDBInfo{{Labels: id.external, MinTime: info.MinTime, MaxTime: info.MaxTime}}
	if s.problems != nil {
		info.Warnings = s.problems()
	}
	return info
}

// plan is a request translated for the Prometheus server.
type plan struct {
	id        *identity
	selection prom.Selection
}

// open says whether the time range is not empty.
func (p plan) open() bool { return p.selection.MinTime <= p.selection.MaxTime }

// plan translates r. ok is false when the server has nothing to return.
func (s *promStore) plan(r *storeapi.Request) (p plan, ok bool, err error) {
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

// persisted is the part of a plan that blocks answer. The caller releases it.
type persisted struct {
	*blocks.View
	mint, maxt int64
}

// split divides the plan into the rest for Prometheus and the part that blocks on
// disk answer, nil if they have nothing of it.
func (s *promStore) split(p plan) (rest plan, part *persisted) {
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
	s.metrics.reads.WithLabelValues(readBlocks).Inc()
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
func (s *promStore) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
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
		sets = append(sets, view.store(p.id).Select(ctx, view.request(r)))
		view.Release()
	}
	if p.open() {
		sets = append(sets, s.selectRest(ctx, p, r))
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storeapi.Merge(sets, r.Order())
	}
	return storeapi.Cut{Shard: r.Shard, Limit: r.Limit, Bounds: s.limits}.Apply(set)
}
