// Package fanout is a storeapi.Store made of many: it chooses those that can
// have an answer, asks them at the same time and merges what they stream.
package fanout

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Config of a Store. The zero value works.
type Config struct {
	// Component is the type in the words of the Info service; "query" when
	// empty.
	Component string
	// SelectorLabels are announced as labels of all data, but not added to it.
	SelectorLabels labels.Labels
	// Filter, when not nil, reports whether a store is asked, by what it announces,
	// and which matchers are added to what it is asked.
	Filter func(storeapi.Info) (extra []*labels.Matcher, ok bool)
	// Ready, when not nil, returns why the stores are not all known yet. Requests fail
	// with it: an answer without the unknown ones would look complete.
	Ready func() error
	// Logger may be nil.
	Logger *slog.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
}

// Store asks other stores.
type Store struct {
	stores  func() []storeapi.Store
	cfg     Config
	metrics *metrics

	mtx sync.Mutex
	// unsorted are the names of stores that were seen to stream out of order.
	unsorted map[string]bool
	// mislabeled are the names of those that sent series without the labels that they
	// announce, with such a series.
	mislabeled map[string]unannounced
}

// New returns a Store over the stores that the function returns for each request.
func New(stores func() []storeapi.Store, cfg Config) *Store {
	if cfg.Component == "" {
		cfg.Component = "query"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Store{stores: stores, cfg: cfg, metrics: newMetrics(cfg.Registerer), unsorted: map[string]bool{}, mislabeled: map[string]unannounced{}}
}

func (s *Store) withSelector(ls labels.Labels) labels.Labels {
	b := labels.NewBuilder(ls)
	s.cfg.SelectorLabels.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Labels()
}

// Select merges the answers of the stores. With PartialWarn a store that fails
// is named in a warning, and what it had sent stays; with PartialAbort it fails
// the request.
func (s *Store) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	stores, err := s.known(r.Partial)
	if err != nil {
		return storeapi.ErrSet(err)
	}
	ms, ok := storeapi.MatchExternal(s.cfg.SelectorLabels, r.Matchers)
	if !ok {
		return storeapi.EmptySet()
	}
	if len(r.Matchers) == 0 {
		return storeapi.ErrSet(fmt.Errorf("%w: no matchers specified (excluding selector labels)", storeapi.ErrInvalid))
	}
	tracing := storeapi.TraceFromContext(ctx)
	trace := tracing.Select(r)
	targets := s.choose(ctx, stores, r, ms, trace)
	if tracing != nil && tracing.Dry {
		return storeapi.EmptySet()
	}
	sets := make([]storeapi.SeriesSet, len(targets))
	a := newAsking(ctx, s, r, targets)
	a.trace = trace
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() { sets[i] = a.open(t, i+1) })
	}
	wg.Wait()
	return &answerSet{SeriesSet: storeapi.Cut{Limit: r.Limit}.Apply(storeapi.Merge(sets, r.Order())), cancel: a.cancel, targets: targets}
}

// known returns the stores for a request. It fails while they are not all known, and
// without any store when the request refuses partial answers.
func (s *Store) known(p storeapi.PartialResponse) ([]storeapi.Store, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	stores := s.stores()
	if len(stores) == 0 && p == storeapi.PartialAbort {
		return nil, noneError()
	}
	return stores, nil
}

// ready returns why the stores are not all known, or nil.
func (s *Store) ready() error {
	if s.cfg.Ready == nil {
		return nil
	}
	if err := s.cfg.Ready(); err != nil {
		return fmt.Errorf("%w: %w", storeapi.ErrNotReady, err)
	}
	return nil
}
