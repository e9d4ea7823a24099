// Package tsdbstore is a storeapi.Store over a Prometheus TSDB.
package tsdbstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// DB is the part of *tsdb.DB that is needed.
type DB interface {
	storage.ChunkQueryable
	// StartTime is the time of the oldest sample, in milliseconds.
	StartTime() (int64, error)
}

// Config is the configuration of a Store.
type Config struct {
	// Component is the type in the words of the Info service.
	Component string
	// External returns the external labels at this moment; nil means none. It
	// is called once per request and must be cheap.
	External func() labels.Labels
}

// Store serves the series of one TSDB. It never closes the TSDB; the owner of the
// TSDB waits for the open sets before it does.
type Store struct {
	db  DB
	cfg Config
}

// New returns a store over db.
func New(db DB, cfg Config) *Store {
	if cfg.External == nil {
		cfg.External = labels.EmptyLabels
	}
	return &Store{db: db, cfg: cfg}
}

// Info describes the store. A TSDB always takes new samples, so its time range
// has no end.
func (s *Store) Info() storeapi.Info {
	mint, err := s.db.StartTime()
	if err != nil {
		mint = math.MinInt64 // unknown: never left out for its time
	}
	ext := s.cfg.External()
	return storeapi.Info{
		Component:                    s.cfg.Component,
		LabelSets:                    []labels.Labels{ext},
		MinTime:                      mint,
		MaxTime:                      math.MaxInt64,
		TSDBs:                        []storeapi.TSDBInfo{{Labels: ext, MinTime: mint, MaxTime: math.MaxInt64}},
		SupportsSharding:             true,
		SupportsWithoutReplicaLabels: true,
		SupportsSortWithout:          true,
	}
}

// Select returns raw chunks only, whatever resolution is accepted.
func (s *Store) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	ext := s.cfg.External()
	ms, ok := storeapi.MatchExternal(ext, r.Matchers)
	if !ok {
		return storeapi.EmptySet()
	}
	if len(ms) == 0 {
		return storeapi.ErrSet(storeapi.ErrNoMatchers)
	}
	q, err := s.db.ChunkQuerier(r.MinTime, r.MaxTime)
	if err != nil {
		return storeapi.ErrSet(fmt.Errorf("open tsdb querier for [%d, %d]: %w", r.MinTime, r.MaxTime, err))
	}
	sel := selection{ctx: ctx, q: q, r: r, ms: ms, ext: ext}
	set, err := sel.ordered()
	if err != nil {
		return storeapi.ErrSet(errors.Join(fmt.Errorf("select from tsdb: %w", err), q.Close()))
	}
	// The chunks are memory of the TSDB until the querier is closed.
	return storeapi.Cut{Shard: r.Shard, Limit: r.Limit, OnClose: q.Close}.Apply(set)
}

// LabelNames adds the names of the external labels when anything matches.
func (s *Store) LabelNames(ctx context.Context, r *storeapi.Request) (names []string, _ storeapi.Warnings, err error) {
	ext := s.cfg.External()
	ms, ok := storeapi.MatchExternal(ext, r.Matchers)
	if !ok {
		return nil, nil, nil
	}
	q, err := s.db.ChunkQuerier(r.MinTime, r.MaxTime)
	if err != nil {
		return nil, nil, fmt.Errorf("open tsdb querier for [%d, %d]: %w", r.MinTime, r.MaxTime, err)
	}
	defer closeQuerier(q, &err)
	if names, _, err = q.LabelNames(ctx, nil, ms...); err != nil {
		return nil, nil, fmt.Errorf("label names of tsdb: %w", err)
	}
	return storeapi.CompleteNames(names, ext, r), nil, nil
}

// LabelValues of an external label is its one value.
func (s *Store) LabelValues(ctx context.Context, name string, r *storeapi.Request) (values []string, _ storeapi.Warnings, err error) {
	if name == "" {
		return nil, nil, fmt.Errorf("label values: %w: empty label name", storeapi.ErrInvalid)
	}
	ext := s.cfg.External()
	ms, ok := storeapi.MatchExternal(ext, r.Matchers)
	if !ok || slices.Contains(r.WithoutReplicaLabels, name) {
		return nil, nil, nil
	}
	if ext.Has(name) && len(ms) == 0 {
		return []string{ext.Get(name)}, nil, nil
	}
	q, err := s.db.ChunkQuerier(r.MinTime, r.MaxTime)
	if err != nil {
		return nil, nil, fmt.Errorf("open tsdb querier for [%d, %d]: %w", r.MinTime, r.MaxTime, err)
	}
	defer closeQuerier(q, &err)
	if ext.Has(name) {
		sel := selection{ctx: ctx, q: q, r: r, ms: ms, ext: ext}
		any, err := sel.matchesAny()
		if !any || err != nil {
			return nil, nil, err
		}
		return []string{ext.Get(name)}, nil, nil
	}
	if values, _, err = q.LabelValues(ctx, name, nil, ms...); err != nil {
		return nil, nil, fmt.Errorf("label values of %q in tsdb: %w", name, err)
	}
	return storeapi.CompleteValues(values, r), nil, nil
}

// closeQuerier reports the failure to close with the answer.
func closeQuerier(q storage.ChunkQuerier, err *error) {
	*err = errors.Join(*err, q.Close())
}
