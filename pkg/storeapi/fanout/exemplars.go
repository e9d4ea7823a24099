package fanout

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// exemplarTarget is a store that is asked for exemplars.
type exemplarTarget struct {
	store   storeapi.ExemplarStore
	name    string
	partial storeapi.PartialResponse
	// asked are the selectors for it; wanted decide about its answer.
	asked, wanted [][]*labels.Matcher
	// sets are its label sets of which wanted can select series.
	sets []labels.Labels
}

// Exemplars merges the answers of the stores that offer exemplars. With PartialWarn a
// store that fails is named in a warning; with PartialAbort it fails the request.
func (s *Store) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	if err := s.ready(); err != nil {
		return nil, nil, err
	}
	targets := s.chooseExemplars(ctx, r)
	answers := make([]exemplarAnswer, len(targets))
	var sources []storeapi.ExemplarStore
	for i := range targets {
		if s.cfg.Filter == nil { // a filter may narrow the selectors
			sources = append(sources, targets[i].store)
		}
	}
	asking := withAsked(ctx, sources)
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			cr := *r
			cr.Selectors, cr.StoreMatchers, cr.Partial = t.asked, nil, t.partial
			a := &answers[i]
			ctx, cancel := context.WithTimeout(asking, gatherTimeout(asking))
			defer cancel()
			a.series, a.warnings, a.err = t.store.Exemplars(ctx, &cr)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	var series []storeapi.ExemplarSeries
	var ws storeapi.Warnings
	report := storeapi.ReportFromContext(ctx)
	for i, a := range answers {
		t := targets[i]
		missing := storeapi.Missing{
			Store: t.name, LabelSets: t.sets, MinTime: r.MinTime, MaxTime: r.MaxTime, Reason: reason.StoreInvalidData,
		}
		report.MissEach(missing, a.warnings)
		if a.err != nil {
			s.metrics.failures.Inc()
			missing.Reason = storeapi.ReasonOf(a.err)
			a.err = nameError("fetch exemplars from store", t.name, a.err)
			missing.Text = a.err.Error()
			report.Miss(missing)
			if t.partial == storeapi.PartialAbort {
				return nil, nil, fmt.Errorf("%w: %w", storeapi.ErrPartial, a.err)
			}
			a.warnings = append(a.warnings, storeapi.Warning{Source: t.name, Text: a.err.Error()})
		}
		illegible := 0
		a.series = slices.DeleteFunc(a.series, func(e storeapi.ExemplarSeries) bool {
			if legibleExemplars(e) {
				return false
			}
			illegible++
			return true
		})
		if illegible > 0 {
			missing.Text = fmt.Sprintf("store %s: left out the exemplars of %d series whose labels are not valid UTF-8", t.name, illegible)
			report.Miss(missing)
			a.warnings = append(a.warnings, storeapi.Warning{Source: t.name, Text: missing.Text})
		}
		a.warnings = sourced(a.warnings, t.name)
		for _, w := range a.warnings {
			report.Warn(w)
		}
		if len(a.warnings) > 0 && t.partial == storeapi.PartialAbort {
			return nil, nil, fmt.Errorf("%w: %s", storeapi.ErrPartial, a.warnings[0].Text)
		}
		ws = append(ws, a.warnings...)
		// Stores that ignore matchers on their external labels return exemplars that
		// the request does not select.
		series = append(series, slices.DeleteFunc(a.series, func(e storeapi.ExemplarSeries) bool {
			return !storeapi.AnySelects(t.wanted, e.Labels)
		})...)
	}
	return storeapi.MergeExemplars(series, nil), ws, nil
}

func legibleExemplars(e storeapi.ExemplarSeries) bool {
	return legible(labels.EmptyLabels(), e.Labels) && !slices.ContainsFunc(e.Exemplars, func(x exemplar.Exemplar) bool { return !legible(labels.EmptyLabels(), x.Labels) })
}

type exemplarAnswer struct {
	series   []storeapi.ExemplarSeries
	warnings storeapi.Warnings
	err      error
}

// chooseExemplars returns the stores that can have an answer. The times that a
// store announces are those of its samples, so they say nothing here.
func (s *Store) chooseExemplars(ctx context.Context, r *storeapi.ExemplarRequest) []exemplarTarget {
	selectors := storeapi.PruneSelectors(s.cfg.SelectorLabels, r.Selectors)
	var out []exemplarTarget
	for _, st := range s.stores() {
		source, ok := st.(storeapi.ExemplarStore)
		if !ok {
			continue
		}
		info := st.Info()
		t := exemplarTarget{store: source, wanted: selectors, partial: partialFor(st, r.Partial)}
		var named bool
		if t.name, named = nameOf(st, info); !matchesStore(r.StoreMatchers, t.name, named) {
			continue
		}
		if _, skip := s.skips(ctx, st, t.name); skip {
			continue
		}
		info = s.trusted(info, t.name)
		if s.cfg.Filter != nil {
			extra, ok := s.cfg.Filter(info)
			if !ok {
				continue
			}
			t.wanted = narrowed(selectors, extra)
		}
		t.sets = storeapi.Concerned(info.LabelSets, t.wanted)
		if t.asked = selectorsFor(info, t.wanted); len(t.asked) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func narrowed(selectors [][]*labels.Matcher, extra []*labels.Matcher) [][]*labels.Matcher {
	out := make([][]*labels.Matcher, 0, len(selectors))
	for _, ms := range selectors {
		out = append(out, append(ms[:len(ms):len(ms)], extra...))
	}
	return out
}

// selectorsFor drops the selectors that the store cannot have series for. Matchers
// that all its label sets satisfy go as well: a Prometheus server knows nothing of
// its external labels. A querier gets all of them, to choose its own stores.
func selectorsFor(info storeapi.Info, selectors [][]*labels.Matcher) [][]*labels.Matcher {
	var out [][]*labels.Matcher
	for _, ms := range selectors {
		if !mayHave(info, ms) {
			continue
		}
		if info.Component != "query" && len(info.LabelSets) > 0 {
			ms = slices.DeleteFunc(slices.Clone(ms), func(m *labels.Matcher) bool {
				return !slices.ContainsFunc(info.LabelSets, func(ls labels.Labels) bool {
					return !ls.Has(m.Name) || !m.Matches(ls.Get(m.Name))
				})
			})
		}
		out = append(out, ms)
	}
	return out
}
