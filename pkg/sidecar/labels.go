package sidecar

import (
	"context"
	"fmt"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// LabelNames returns the label names of the matching series, which all have the
// external labels.
func (s *promStore) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	p, ok, err := s.plan(r)
	if err != nil || !ok {
		return nil, nil, err
	}
	var names []string
	p, view := s.split(p)
	if view != nil {
		names, _, err = view.store(p.id).LabelNames(ctx, view.request(r))
		view.Release()
		if err != nil || !p.open() {
			return names, nil, err
		}
	}
	if r.Limit > 0 {
		p.selection.Limit = r.Limit + len(r.WithoutReplicaLabels)
	}
	recent, warnings, err := s.recent(ctx, p, r, listing{
		prometheus: func() ([]string, []string, error) { return s.source.client.LabelNames(ctx, p.selection) },
		disk: func(st *tsdbstore.Store, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
			return st.LabelNames(ctx, r)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return storeapi.CompleteNames(append(names, recent...), p.id.external, r), warnings, nil
}

// listing is a request for names or values: to Prometheus, which returns warnings as
// text, and to a store of its data directory.
type listing struct {
	prometheus func() (found, warnings []string, err error)
	disk       func(st *tsdbstore.Store, r *storeapi.Request) ([]string, storeapi.Warnings, error)
}

// recent asks Prometheus, or reads its data directory while Prometheus does not answer.
func (s *promStore) recent(ctx context.Context, p plan, r *storeapi.Request, l listing) ([]string, storeapi.Warnings, error) {
	s.metrics.reads.WithLabelValues(readRemote).Inc()
	found, warnings, err := l.prometheus()
	if err == nil {
		return found, s.warnings(warnings), nil
	}
	err = failed(s.source, err)
	part, ok, diskErr := s.diskView(ctx, p, err)
	switch {
	case !ok:
		return nil, nil, err
	case diskErr != nil:
		return nil, nil, diskErr
	}
	defer part.Release()
	found, ws, err := l.disk(part.store(p.id), part.request(r))
	return found, append(ws, s.gapWarnings(part)...), err
}

// LabelValues returns the values of a label of the matching series.
func (s *promStore) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if name == "" {
		return nil, nil, fmt.Errorf("%w: label name is empty", storeapi.ErrInvalid)
	}
	p, ok, err := s.plan(r)
	if err != nil || !ok || slices.Contains(r.WithoutReplicaLabels, name) {
		return nil, nil, err
	}
	var values []string
	p, view := s.split(p)
	if view != nil {
		values, _, err = view.store(p.id).LabelValues(ctx, name, view.request(r))
		view.Release()
		if err != nil || !p.open() {
			return values, nil, err
		}
	}
	recent, warnings, err := s.recent(ctx, p, r, listing{
		prometheus: func() ([]string, []string, error) { return s.remoteValues(ctx, name, p, r.Limit) },
		disk: func(st *tsdbstore.Store, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
			return st.LabelValues(ctx, name, r)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return storeapi.CompleteValues(append(values, recent...), r), warnings, nil
}

// remoteValues asks Prometheus. An external label has one value if any series
// matches.
func (s *promStore) remoteValues(ctx context.Context, name string, p plan, limit int) ([]string, []string, error) {
	if !p.id.external.Has(name) {
		p.selection.Limit = limit
		return s.source.client.LabelValues(ctx, name, p.selection)
	}
	if len(p.selection.Matchers) > 0 {
		p.selection.Limit = 1
		sets, _, err := s.source.client.Series(ctx, p.selection)
		if err != nil || len(sets) == 0 {
			return nil, nil, err
		}
	}
	return []string{p.id.external.Get(name)}, nil, nil
}
