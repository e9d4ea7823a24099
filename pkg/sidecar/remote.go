package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// maxSplits bounds the number of remote reads for one request.
const maxSplits = 8

// remoteSelect reads from Prometheus.
func (s *promStore) remoteSelect(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	if r.SkipChunks {
		return s.remoteLabels(ctx, p, r)
	}
	return s.remoteChunks(ctx, p, r)
}

// remoteChunks streams over remote read.
//
// Prometheus streams in the order of the stored label sets but sends them with the
// external labels added. A stored label that equals an external one looks like an
// added one, so the order of the stream would be unknown. Where such labels exist
// the request is split into one part with each combination of them, within which
// the order is known, and the parts are merged.
func (s *promStore) remoteChunks(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	queries := splitNative(p)
	if len(queries) > maxSplits {
		return s.remoteSorted(ctx, p, r)
	}
	// Labels that the order leaves out are, for it, as if they were removed.
	unordered := slices.Concat(r.WithoutReplicaLabels, r.SortWithout)
	own, err := s.ownLabels(ctx, p, unordered)
	if err != nil {
		return storeapi.ErrSet(failed(s.source, err))
	}
	order := storeapi.Reorder{External: p.id.external, Drop: r.WithoutReplicaLabels, Order: r.Order(), Own: own}
	absent := p.absent(unordered, own)
	sets := make([]storeapi.SeriesSet, 0, len(queries))
	for _, q := range queries {
		sets = append(sets, order.Apply(&readSet{ctx: ctx, source: s.source, query: q, absent: absent}))
	}
	if len(sets) == 1 {
		return sets[0]
	}
	watch := collisions{}
	for _, q := range queries {
		watch.kinds = append(watch.kinds, labels.NewBuilder(q.Strip).Del(r.WithoutReplicaLabels...).Labels())
	}
	return storeapi.Merge(watch.watch(sets), r.Order())
}

// ownLabels returns whether the selected series may have a label of their own. If
// some series in Prometheus have one of the labels in drop, it asks for the
// names of the selected series: if they have none of them, no series must be held
// back.
func (s *promStore) ownLabels(ctx context.Context, p plan, drop []string) (own func(string) bool, err error) {
	if !slices.ContainsFunc(drop, p.id.stored) {
		return p.id.stored, nil
	}
	names, _, err := s.source.client.LabelNames(ctx, p.selection)
	if err != nil {
		return nil, err
	}
	return func(name string) bool {
		_, ok := slices.BinarySearch(names, name)
		return ok
	}, nil
}

// absent are the labels that would change the order and that no selected series is
// known to have.
func (p plan) absent(drop []string, own func(string) bool) []string {
	names := slices.Clone(drop)
	p.id.external.Range(func(l labels.Label) { names = append(names, l.Name) })
	return slices.DeleteFunc(names, own)
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

// remoteSorted collects the whole answer and sorts it.
func (s *promStore) remoteSorted(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	stream, err := s.source.client.Read(ctx, prom.ReadQuery{
		MinTime: p.selection.MinTime, MaxTime: p.selection.MaxTime,
		Matchers: p.selection.Matchers,
	})
	if err != nil {
		return storeapi.ErrSet(failed(s.source, err))
	}
	defer func() { _ = stream.Close() }()
	outer := newOuterLabels(p.id.external, r.WithoutReplicaLabels)
	var all []storeapi.Series
	var bad badChunks
	for stream.Next() {
		all = append(all, storeapi.Series{Labels: outer.of(stream.Labels()), Chunks: bad.convert(nil, stream.Chunks())})
	}
	if err := stream.Err(); err != nil {
		return storeapi.ErrSet(failed(s.source, err))
	}
	order := r.Order()
	slices.SortStableFunc(all, func(a, b storeapi.Series) int { return order.Compare(a.Labels, b.Labels) })
	return storeapi.NewSliceSet(all, bad.warnings(s.source.client.URL())...)
}

// remoteLabels asks for label sets only. It collects and sorts them, because the API
// returns them in no order.
func (s *promStore) remoteLabels(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	if r.Shard == nil && len(r.WithoutReplicaLabels) == 0 {
		p.selection.Limit = r.Limit
	}
	sets, warnings, err := s.source.client.Series(ctx, p.selection)
	if err != nil {
		return storeapi.ErrSet(failed(s.source, err))
	}
	outer := newOuterLabels(p.id.external, r.WithoutReplicaLabels)
	for i := range sets {
		sets[i] = outer.of(sets[i])
	}
	slices.SortFunc(sets, r.Order().Compare)
	sets = slices.CompactFunc(sets, labels.Equal)
	all := make([]storeapi.Series, len(sets))
	for i, lset := range sets {
		all[i].Labels = lset
	}
	return storeapi.NewSliceSet(all, s.warnings(warnings)...)
}

// failed classifies an error of the client for the StoreAPI.
func failed(src *source, err error) error {
	var pe *prom.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case !errors.As(err, &pe):
		// The connection, or the stream on it.
		src.recheck()
		return fmt.Errorf("%w: %w", storeapi.ErrUnavailable, err)
	}
	switch pe.Status {
	case http.StatusBadRequest:
		return fmt.Errorf("%w: %w", storeapi.ErrInvalid, err)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", storeapi.ErrNotFound, err)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		src.recheck()
		return fmt.Errorf("%w: %w", storeapi.ErrUnavailable, err)
	}
	return err
}

// truncated is the warning of Prometheus about a limit of the request, which is not
// passed on.
const truncated = "results truncated due to limit"

func (s *promStore) warnings(texts []string) storeapi.Warnings {
	var ws storeapi.Warnings
	for _, t := range texts {
		if t == truncated {
			continue
		}
		ws = append(ws, storeapi.Warning{Source: s.source.client.URL(), Text: t})
	}
	return ws
}
