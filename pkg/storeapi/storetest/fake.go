package storetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Fake is a store in memory that does everything in the simplest way: it looks
// at every series and sorts. Change its fields before it is used.
type Fake struct {
	// About is returned by Info.
	About storeapi.Info
	// Wrap, when not nil, changes the set that Select returns.
	Wrap func(ctx context.Context, r *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet
	// Stats are reported by every set.
	Stats storeapi.Stats
	// LabelsErr fails the label calls.
	LabelsErr error

	data   Data
	series []storeapi.Series
}

// NewFake returns a fake that holds data in chunks of up to 7 samples.
func NewFake(t testing.TB, data Data) *Fake {
	f := &Fake{data: data, About: storeapi.Info{
		Component:                    "debug",
		MinTime:                      math.MaxInt64,
		MaxTime:                      math.MinInt64,
		SupportsSharding:             true,
		SupportsWithoutReplicaLabels: true,
		SupportsSortWithout:          true,
	}}
	if !data.External.IsEmpty() {
		f.About.LabelSets = []labels.Labels{data.External}
	}
	enc := chunkenc.EncXOR
	if data.XOR2 {
		enc = chunkenc.EncXOR2
	}
	for _, s := range data.Series {
		cs := Chunks(t, s.Samples, 7, enc)
		for _, c := range cs {
			f.About.MinTime = min(f.About.MinTime, c.MinTime)
			f.About.MaxTime = max(f.About.MaxTime, c.MaxTime)
		}
		f.series = append(f.series, storeapi.Series{Labels: s.Labels, Chunks: cs})
	}
	if len(f.series) > 0 {
		f.About.TSDBs = []storeapi.TSDBInfo{{Labels: data.External, MinTime: f.About.MinTime, MaxTime: f.About.MaxTime}}
	}
	return f
}

// Info returns About.
func (f *Fake) Info() storeapi.Info { return f.About }

// Select implements storeapi.Store.
func (f *Fake) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	set := f.sel(ctx, r)
	if f.Wrap != nil {
		return f.Wrap(ctx, r, set)
	}
	return set
}

// sel answers a request from memory. As a real store does, it ignores sharding,
// replica labels and another order if its Info does not announce them. The chunks of the result are
// shared with the fake.
func (f *Fake) sel(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	ms, ok := storeapi.MatchExternal(f.data.External, r.Matchers)
	if !ok {
		return storeapi.EmptySet()
	}
	if len(ms) == 0 {
		return storeapi.ErrSet(storeapi.ErrNoMatchers)
	}
	req := *r
	if !f.About.SupportsSharding {
		req.Shard = nil
	}
	if !f.About.SupportsWithoutReplicaLabels {
		req.WithoutReplicaLabels = nil
	}
	if !f.About.SupportsSortWithout {
		req.SortWithout = nil
	}
	order := req.Order()
	var out []storeapi.Series
	for _, s := range f.matching(&req) {
		cs := overlapping(s.Chunks, r)
		if len(cs) == 0 {
			continue
		}
		if r.SkipChunks {
			cs = nil
		}
		out = append(out, storeapi.Series{Labels: f.data.answer(s.Labels, &req), Chunks: cs})
	}
	slices.SortStableFunc(out, func(a, b storeapi.Series) int { return order.Compare(a.Labels, b.Labels) })
	set := storeapi.Cut{Limit: r.Limit}.Apply(storeapi.NewSliceSet(out))
	return &fakeSet{SeriesSet: set, ctx: ctx, stats: f.Stats}
}

func (f *Fake) matching(r *storeapi.Request) (out []storeapi.Series) {
	for _, s := range f.series {
		if f.data.matches(s.Labels, r) {
			out = append(out, s)
		}
	}
	return out
}

func overlapping(cs []storeapi.Chunk, r *storeapi.Request) (out []storeapi.Chunk) {
	for _, c := range cs {
		if c.MinTime <= r.MaxTime && c.MaxTime >= r.MinTime {
			out = append(out, c)
		}
	}
	return out
}

// LabelNames implements storeapi.Store.
func (f *Fake) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if err := f.labelsErr(ctx); err != nil {
		return nil, nil, err
	}
	var names []string
	for _, s := range f.inRange(r) {
		s.Labels.Range(func(l labels.Label) { names = append(names, l.Name) })
	}
	return storeapi.CompleteNames(names, f.data.External, r), nil, nil
}

// LabelValues implements storeapi.Store.
func (f *Fake) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if name == "" {
		return nil, nil, fmt.Errorf("label values: %w: empty label name", storeapi.ErrInvalid)
	}
	if err := f.labelsErr(ctx); err != nil {
		return nil, nil, err
	}
	if slices.Contains(r.WithoutReplicaLabels, name) {
		return nil, nil, nil
	}
	ms, ok := storeapi.MatchExternal(f.data.External, r.Matchers)
	if ok && len(ms) == 0 && f.data.External.Has(name) {
		return []string{f.data.External.Get(name)}, nil, nil
	}
	var values []string
	for _, s := range f.inRange(r) {
		if v := f.data.answer(s.Labels, &storeapi.Request{}).Get(name); v != "" {
			values = append(values, v)
		}
	}
	return storeapi.CompleteValues(values, r), nil, nil
}

func (f *Fake) labelsErr(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.LabelsErr
}

func (f *Fake) inRange(r *storeapi.Request) (out []storeapi.Series) {
	for _, s := range f.matching(r) {
		if len(overlapping(s.Chunks, r)) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// fakeSet ends when its context does.
type fakeSet struct {
	storeapi.SeriesSet
	ctx   context.Context
	stats storeapi.Stats
	err   error
}

func (s *fakeSet) Next() bool {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	return s.err == nil && s.SeriesSet.Next()
}

func (s *fakeSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}

func (s *fakeSet) Stats() storeapi.Stats { return s.stats }
