package fanout

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// LabelNames is the union of what the stores have. The limit is applied here
// only.
func (s *Store) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return s.collect(ctx, r, "fetch label names from store", func(ctx context.Context, t target, partial storeapi.PartialResponse) ([]string, storeapi.Warnings, error) {
		cr := *r
		cr.Matchers, cr.StoreMatchers, cr.Limit, cr.Partial = t.widenedLabels(), nil, 0, partial
		names, ws, err := t.store.LabelNames(ctx, &cr)
		return slices.DeleteFunc(names, func(n string) bool {
			return slices.Contains(r.WithoutReplicaLabels, n)
		}), ws, err
	})
}

// LabelValues is the union of what the stores have.
func (s *Store) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if name == "" {
		return nil, nil, fmt.Errorf("label values: %w: empty label name", storeapi.ErrInvalid)
	}
	if slices.Contains(r.WithoutReplicaLabels, name) {
		return nil, nil, nil
	}
	return s.collect(ctx, r, "fetch label values from store", func(ctx context.Context, t target, partial storeapi.PartialResponse) ([]string, storeapi.Warnings, error) {
		cr := *r
		cr.Matchers, cr.StoreMatchers, cr.BlockMatchers, cr.Partial = t.widenedLabels(), nil, nil, partial
		return t.store.LabelValues(ctx, name, &cr)
	})
}

// collect asks the chosen stores at the same time.
func (s *Store) collect(ctx context.Context, r *storeapi.Request, doing string, ask func(context.Context, target, storeapi.PartialResponse) ([]string, storeapi.Warnings, error)) ([]string, storeapi.Warnings, error) {
	stores, err := s.known(r.Partial)
	if err != nil {
		return nil, nil, err
	}
	ms, ok := storeapi.MatchExternal(s.cfg.SelectorLabels, r.Matchers)
	if !ok {
		return nil, nil, nil
	}
	targets := s.choose(ctx, stores, r, ms, nil)
	answers := make([]answer, len(targets))
	asking := withAsked(ctx, storesOf(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			a := &answers[i]
			a.values, a.warnings, a.err = ask(asking, t, partialFor(t.store, r.Partial))
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	var values []string
	var ws storeapi.Warnings
	report := storeapi.ReportFromContext(ctx)
	for i, a := range answers {
		t := &targets[i]
		partial := partialFor(t.store, r.Partial)
		t.warn(ctx, r, a.warnings)
		ws = append(ws, sourced(a.warnings, t.name)...)
		if a.err == nil {
			legible := slices.DeleteFunc(a.values, func(v string) bool { return !utf8.ValidString(v) })
			if n := len(a.values) - len(legible); n > 0 {
				text := fmt.Sprintf("store %s: left out %d names or values of labels that are not valid UTF-8", t.name, n)
				report.Miss(t.missing(r, reason.StoreInvalidData, text))
				if partial == storeapi.PartialAbort {
					return nil, ws, fmt.Errorf("%w: %s", storeapi.ErrPartial, text)
				}
				ws = append(ws, storeapi.Warning{Source: t.name, Text: text})
			}
			values = append(values, legible...)
			continue
		}
		s.metrics.failures.Inc()
		err := nameError(doing, t.name, a.err)
		report.Miss(t.missing(r, storeapi.ReasonOf(a.err), err.Error()))
		if partial == storeapi.PartialAbort {
			return nil, ws, err
		}
		ws = append(ws, storeapi.Warning{Source: t.name, Text: err.Error()})
	}
	return storeapi.CompleteValues(values, r), ws, nil
}

type answer struct {
	values   []string
	warnings storeapi.Warnings
	err      error
}

var _ storeapi.Store = (*Store)(nil)
