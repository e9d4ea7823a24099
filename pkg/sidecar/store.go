package sidecar

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Store serves what a Prometheus server holds, head and blocks, through its HTTP
// API. It implements storeapi.Store and storeapi.MetadataStore.
type Store struct {
	source *source
	// minTime is the oldest time to serve at a moment.
	minTime func(now time.Time) int64
	limits  limits
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
	return p, ok && p.selection.MinTime <= p.selection.MaxTime, nil
}

// Select streams the matching series from Prometheus.
func (s *Store) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	p, ok, err := s.plan(r)
	switch {
	case err != nil:
		return storeapi.ErrSet(err)
	case len(p.selection.Matchers) == 0 && matchersAllow(p.id.external, r.Matchers):
		return storeapi.ErrSet(storeapi.ErrNoMatchers)
	case !ok:
		return storeapi.EmptySet()
	}
	var set storeapi.SeriesSet
	if r.SkipChunks {
		set = s.selectLabels(ctx, p, r)
	} else {
		set = s.selectChunks(ctx, p, r)
	}
	return s.limits.guard(storeapi.LimitSet(storeapi.ShardSet(set, r.Shard), r.Limit))
}

func matchersAllow(ext labels.Labels, ms []*labels.Matcher) bool {
	_, ok := storeapi.MatchExternal(ext, ms)
	return ok
}

// maxSplits bounds the number of remote reads for one request.
const maxSplits = 8

// selectChunks streams over remote read.
//
// Prometheus streams in the order of the stored label sets but sends them with
// the external labels added, so a stored label that equals an external one
// cannot be told from an added one, and the order of the stream would be
// unknown. Where such labels exist the request is split into one part with each
// combination of them, within which the order is known, and the parts are merged.
func (s *Store) selectChunks(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	queries := splitNative(p)
	if len(queries) > maxSplits {
		return s.selectSorted(ctx, p, r)
	}
	sets := make([]storeapi.SeriesSet, 0, len(queries))
	for _, q := range queries {
		set := &readSet{ctx: ctx, source: s.source, query: q}
		if p.id.stored(r.WithoutReplicaLabels) {
			sets = append(sets, storeapi.ReorderSet(set, p.id.external, r.WithoutReplicaLabels))
			continue
		}
		set.absent = r.WithoutReplicaLabels
		sets = append(sets, storeapi.ReorderSetNoPrefixes(set, p.id.external, r.WithoutReplicaLabels))
	}
	if len(sets) == 1 {
		return sets[0]
	}
	return storeapi.Merge(sets)
}

// splitNative returns the remote reads that together answer the plan, each with
// the labels to strip from its answer.
func splitNative(p plan) []prom.ReadQuery {
	queries := []prom.ReadQuery{{
		MinTime: p.selection.MinTime, MaxTime: p.selection.MaxTime,
		Matchers: p.selection.Matchers, Strip: p.id.external,
	}}
	for _, name := range p.id.native {
		split := make([]prom.ReadQuery, 0, 2*len(queries))
		for _, q := range queries {
			without, with := q, q
			without.Matchers = append(slices.Clone(q.Matchers), labels.MustNewMatcher(labels.MatchEqual, name, ""))
			with.Matchers = append(slices.Clone(q.Matchers), labels.MustNewMatcher(labels.MatchNotEqual, name, ""))
			with.Strip = labels.NewBuilder(q.Strip).Del(name).Labels()
			split = append(split, without, with)
		}
		queries = split
	}
	return queries
}

// selectSorted collects the whole answer and sorts it.
func (s *Store) selectSorted(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	stream, err := s.source.client.Read(ctx, prom.ReadQuery{
		MinTime: p.selection.MinTime, MaxTime: p.selection.MaxTime,
		Matchers: p.selection.Matchers,
	})
	if err != nil {
		return storeapi.ErrSet(s.failed(err))
	}
	defer stream.Close()
	outer := newOuterLabels(p.id.external, r.WithoutReplicaLabels)
	var all []storeapi.Series
	for stream.Next() {
		all = append(all, storeapi.Series{Labels: outer.of(stream.Labels()), Chunks: convertChunks(nil, stream.Chunks())})
	}
	if err := stream.Err(); err != nil {
		return storeapi.ErrSet(s.failed(err))
	}
	slices.SortStableFunc(all, func(a, b storeapi.Series) int { return labels.Compare(a.Labels, b.Labels) })
	return storeapi.NewSliceSet(all)
}

// selectLabels asks for label sets only. They are collected and sorted, because
// the API returns them in no order.
func (s *Store) selectLabels(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	if r.Shard == nil && len(r.WithoutReplicaLabels) == 0 {
		p.selection.Limit = r.Limit
	}
	sets, warnings, err := s.source.client.Series(ctx, p.selection)
	if err != nil {
		return storeapi.ErrSet(s.failed(err))
	}
	outer := newOuterLabels(p.id.external, r.WithoutReplicaLabels)
	for i := range sets {
		sets[i] = outer.of(sets[i])
	}
	slices.SortFunc(sets, labels.Compare)
	return &labelSet{sets: slices.CompactFunc(sets, labels.Equal), at: -1, warnings: s.warnings(warnings)}
}

// failed gives an error of the client its kind.
func (s *Store) failed(err error) error { return failed(s.source, err) }

func failed(src *source, err error) error {
	var pe *prom.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case !errors.As(err, &pe):
		// The connection, or the stream on it.
		src.doubt()
		return fmt.Errorf("%w: %w", storeapi.ErrUnavailable, err)
	}
	switch pe.Status {
	case 400:
		return fmt.Errorf("%w: %w", storeapi.ErrInvalid, err)
	case 404:
		return fmt.Errorf("%w: %w", storeapi.ErrNotFound, err)
	case 502, 503, 504:
		src.doubt()
		return fmt.Errorf("%w: %w", storeapi.ErrUnavailable, err)
	}
	return err
}

// truncated is what Prometheus says when it applied a limit. Who asked for the
// limit need not be warned.
const truncated = "results truncated due to limit"

func (s *Store) warnings(texts []string) storeapi.Warnings {
	var ws storeapi.Warnings
	for _, t := range texts {
		if t == truncated {
			continue
		}
		ws = append(ws, storeapi.Warning{Source: s.source.client.URL(), Text: t})
	}
	return ws
}

// LabelNames returns the names among the matching series; the external ones
// belong to every series.
func (s *Store) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	p, ok, err := s.plan(r)
	if err != nil || !ok {
		return nil, nil, err
	}
	if r.Limit > 0 {
		p.selection.Limit = r.Limit + len(r.WithoutReplicaLabels)
	}
	names, warnings, err := s.source.client.LabelNames(ctx, p.selection)
	if err != nil {
		return nil, nil, s.failed(err)
	}
	if len(names) > 0 {
		p.id.external.Range(func(l labels.Label) { names = append(names, l.Name) })
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(r.WithoutReplicaLabels, n) })
	slices.Sort(names)
	return limited(slices.Compact(names), r.Limit), s.warnings(warnings), nil
}

// LabelValues returns the values of a label among the matching series.
func (s *Store) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if name == "" {
		return nil, nil, fmt.Errorf("%w: label name is empty", storeapi.ErrInvalid)
	}
	p, ok, err := s.plan(r)
	if err != nil || !ok || slices.Contains(r.WithoutReplicaLabels, name) {
		return nil, nil, err
	}
	if p.id.external.Has(name) {
		return s.externalValue(ctx, name, p)
	}
	p.selection.Limit = r.Limit
	values, warnings, err := s.source.client.LabelValues(ctx, name, p.selection)
	if err != nil {
		return nil, nil, s.failed(err)
	}
	return limited(values, r.Limit), s.warnings(warnings), nil
}

// externalValue is the value of an external label, provided that a series
// matches.
func (s *Store) externalValue(ctx context.Context, name string, p plan) ([]string, storeapi.Warnings, error) {
	if len(p.selection.Matchers) > 0 {
		p.selection.Limit = 1
		sets, _, err := s.source.client.Series(ctx, p.selection)
		if err != nil {
			return nil, nil, s.failed(err)
		}
		if len(sets) == 0 {
			return nil, nil, nil
		}
	}
	return []string{strings.Clone(p.id.external.Get(name))}, nil, nil
}

func limited(in []string, n int) []string {
	if n > 0 && len(in) > n {
		return in[:n]
	}
	return in
}

// Metadata returns what the targets of the server say about metrics.
func (s *Store) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if limit == 0 {
		return nil, nil, nil
	}
	got, err := s.source.client.Metadata(ctx, metric, limit)
	if err != nil {
		return nil, nil, s.failed(err)
	}
	out := make(map[string][]storeapi.Metadata, len(got))
	for name, entries := range got {
		for _, m := range entries {
			out[name] = append(out[name], storeapi.Metadata{Type: m.Type, Help: m.Help, Unit: m.Unit})
		}
	}
	return out, nil, nil
}
