package fanout

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Bounds of an answer that is a list: rules, targets, statistics.
const (
	// gatherBytes bounds the memory of the answers of all stores together.
	gatherBytes = 256 << 20
	// gatherTime bounds the time of each store, so that one that hangs costs its
	// own part and not the whole answer.
	gatherTime = 15 * time.Second
)

// inquiry is one request to all stores that implement S, with answers of type T.
type inquiry[S, T any] struct {
	// doing begins the text of errors, before the name of the store.
	doing         string
	partial       storeapi.PartialResponse
	storeMatchers [][]*labels.Matcher
	// concerns reports whether a store can have an answer; nil means that all can.
	concerns func(storeapi.Info) bool
	ask      func(context.Context, S) (T, storeapi.Warnings, error)
}

// gather asks the stores at the same time and returns their answers in the order
// of the stores. With PartialWarn a store that fails is named in a warning; with
// PartialAbort it fails the request.
func gather[S, T any](ctx context.Context, s *Store, q inquiry[S, T]) ([]T, storeapi.Warnings, error) {
	type answer struct {
		name string
		// partial is the policy for the store.
		partial storeapi.PartialResponse
		got     T
		ws      storeapi.Warnings
		err     error
	}
	if err := s.ready(); err != nil {
		return nil, nil, err
	}
	var answers []*answer
	var sources []S
	for _, st := range s.stores() {
		source, ok := st.(S)
		if !ok {
			continue
		}
		info := st.Info()
		name, named := nameOf(st, info)
		if !matchesStore(q.storeMatchers, name, named) {
			continue
		}
		if _, skip := s.skips(ctx, st, name); skip || q.concerns != nil && !q.concerns(info) {
			continue
		}
		a := &answer{name: name, partial: partialFor(st, q.partial)}
		answers, sources = append(answers, a), append(sources, source)
	}
	var wg sync.WaitGroup
	asking := withAsked(ctx, sources)
	for i, a := range answers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(asking, gatherTimeout(asking))
			defer cancel()
			a.got, a.ws, a.err = q.ask(ctx, sources[i])
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	var out []T
	var ws storeapi.Warnings
	var refused error
	report := storeapi.ReportFromContext(ctx)
	for _, a := range answers {
		a.ws = sourced(a.ws, a.name)
		if a.err == nil {
			out = append(out, a.got)
		} else {
			s.metrics.failures.Inc()
			err := nameError(q.doing, a.name, a.err)
			report.Miss(storeapi.Missing{Store: a.name, Reason: storeapi.ReasonOf(a.err), Text: err.Error()})
			a.ws = append(a.ws, storeapi.Warning{Source: a.name, Text: err.Error()})
		}
		if refused == nil && len(a.ws) > 0 && a.partial == storeapi.PartialAbort {
			refused = fmt.Errorf("%w: %s", storeapi.ErrPartial, a.ws[len(a.ws)-1].Text)
			if a.err != nil {
				refused = fmt.Errorf("%w: %w", storeapi.ErrPartial, nameError(q.doing, a.name, a.err))
			}
		}
		ws = append(ws, a.ws...)
	}
	for _, w := range ws {
		report.Warn(w)
	}
	if refused != nil {
		return nil, nil, refused
	}
	return out, ws, nil
}

// gatherTimeout is how long one store may take: less than the caller waits, so
// that the answers of the others arrive.
func gatherTimeout(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return gatherTime
	}
	return min(gatherTime, time.Until(deadline)*3/4)
}

// budget is the given one, or a new one for an answer of the named kind.
func budget(given *limit.Budget, what string) *limit.Budget {
	if given != nil {
		return given
	}
	return limit.NewBudget(what, gatherBytes)
}
