package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Lists are the sources of what a querier has from the servers behind its
// stores, and whether each answer may lack something when a request does not
// say. A nil source answers an empty list.
type Lists struct {
	Rules      storeapi.RuleStore
	Targets    storeapi.TargetStore
	TSDBStatus storeapi.TSDBStatusStore

	RulesPartial, TargetsPartial, TSDBStatusPartial bool
}

// listRequest has the common parameters of requests for lists.
type listRequest struct {
	params  queryopts.Options
	partial storeapi.PartialResponse
	// without are the labels to remove from the answer.
	without []string
}

func listRequestOf(r *http.Request, partial bool) listRequest {
	p, _ := queryopts.FromContext(r.Context())
	if r.Form.Get("partial_response") != "" {
		partial = p.PartialResponse
	}
	l := listRequest{params: p, partial: storeapi.PartialAbort}
	if partial {
		l.partial = storeapi.PartialWarn
	}
	if p.Dedup {
		l.without = p.ReplicaLabels
	}
	return l
}

// matchers reads match[]; the restriction of the tenant is one more set.
func (a *API) matchers(r *http.Request, enforced *labels.Matcher) ([][]*labels.Matcher, error) {
	sets, err := a.cfg.Parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		return nil, fmt.Errorf("invalid parameter \"match[]\": %w", err)
	}
	if enforced == nil {
		return sets, nil
	}
	for i := range sets {
		if enforced.Type != labels.MatchEqual {
			break // one of several tenants may be chosen
		}
		sets[i] = slices.DeleteFunc(sets[i], func(m *labels.Matcher) bool { return m.Name == enforced.Name })
	}
	return append(sets, []*labels.Matcher{enforced}), nil
}

// reported puts the warnings into the report of the request and returns their
// texts.
func reported(ctx context.Context, ws storeapi.Warnings) []string {
	report := storeapi.ReportFromContext(ctx)
	for _, w := range ws {
		report.Warn(w)
	}
	return ws.Strings()
}

func badData(w http.ResponseWriter, err error) {
	writeError(w, http.StatusBadRequest, "bad_data", err)
}

// writeListError answers that a list cannot be had. The request ran out of time
// only when its own time is over: stores have times of their own.
func writeListError(w http.ResponseWriter, r *http.Request, doing string, err error) {
	ended := r.Context().Err()
	err = fmt.Errorf("%s: %w", doing, err)
	switch {
	case errors.Is(ended, context.DeadlineExceeded):
		writeError(w, http.StatusServiceUnavailable, "timeout", err)
	case ended != nil:
		writeError(w, http.StatusServiceUnavailable, "canceled", err)
	case errors.Is(err, storeapi.ErrInvalid):
		badData(w, err)
	default:
		writeError(w, http.StatusUnprocessableEntity, "execution", err)
	}
}
