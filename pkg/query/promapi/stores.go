package promapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
)

// StoreStatus describes one store for people.
type StoreStatus struct {
	// Component is the type: sidecar, store, receive, rule, query.
	Component string
	// Name is the address.
	Name string
	// Health is one word: "up", "missing", or "unknown" before the first
	// contact.
	Health    string
	LastCheck time.Time
	LastError string
	LabelSets []labels.Labels
	// MinTime and MaxTime are inclusive milliseconds.
	MinTime, MaxTime int64
	// Contacted says that the store has answered at least once.
	Contacted bool
	Strict    bool
	// Warnings are problems that the store or the querier reports of it.
	Warnings []string
}

type storeJSON struct {
	Name      string              `json:"name"`
	LastCheck time.Time           `json:"lastCheck"`
	LastError *string             `json:"lastError"`
	LabelSets []map[string]string `json:"labelSets"`
	MinTime   int64               `json:"minTime"`
	MaxTime   int64               `json:"maxTime"`
	Warnings  []string            `json:"warnings,omitempty"`
	*storeDetail
}

// storeDetail is what a store has with the parameter all=true only: without it the
// answer is that of Thanos.
type storeDetail struct {
	Component string `json:"component"`
	Health    string `json:"health"`
	Contacted bool   `json:"contacted"`
	Strict    bool   `json:"strict"`
}

// storesJSON lists the stores by their component. With all=true these are all stores,
// those too that have never answered, with their health.
func (a *API) storesJSON(w http.ResponseWriter, r *http.Request) {
	var all bool
	if err := parseBool(r.URL.Query().Get("all"), &all); err != nil {
		badData(w, fmt.Errorf("invalid parameter \"all\": %w", err))
		return
	}
	out := map[string][]storeJSON{}
	for _, s := range a.sortedStores(r.Context()) {
		if !s.Contacted && !s.Strict && !all {
			continue
		}
		j := storeJSON{
			Name: s.Name, LastCheck: s.LastCheck.UTC(), MinTime: s.MinTime, MaxTime: s.MaxTime,
			LabelSets: []map[string]string{}, Warnings: s.Warnings,
		}
		if s.LastError != "" {
			j.LastError = &s.LastError
		}
		if all {
			j.storeDetail = &storeDetail{Component: s.Component, Health: s.Health, Contacted: s.Contacted, Strict: s.Strict}
			// JSON numbers of browsers hold no more.
			j.MinTime, j.MaxTime = clampTime(s.MinTime), clampTime(s.MaxTime)
		}
		for _, l := range s.LabelSets {
			j.LabelSets = append(j.LabelSets, l.Map())
		}
		out[s.Component] = append(out[s.Component], j)
	}
	writeData(w, out, nil)
}

// forgetStore removes the store of the parameter address from the expected ones.
// A tenant that sees only its own data may not.
func (a *API) forgetStore(w http.ResponseWriter, r *http.Request) {
	if p, ok := queryopts.FromContext(r.Context()); ok && p.Enforced != nil {
		writeError(w, http.StatusForbidden, "forbidden", errors.New("stores cannot be removed while --query.enforce-tenancy is set"))
		return
	}
	address := r.URL.Query().Get("address")
	if address == "" {
		badData(w, errors.New("missing parameter \"address\": the address of a store as /api/v1/stores names it"))
		return
	}
	if code, err := a.cfg.ForgetStore(address); err != nil {
		writeError(w, code, "bad_data", err)
		return
	}
	writeData(w, struct{}{}, nil)
}

// sortedStores are those that the tenant of the request may see, with the label
// sets that it may see.
func (a *API) sortedStores(ctx context.Context) []StoreStatus {
	stores := a.cfg.Stores()
	if p, ok := queryopts.FromContext(ctx); ok && p.Enforced != nil {
		stores = visible(stores, p.Enforced)
	}
	slices.SortStableFunc(stores, func(x, y StoreStatus) int {
		return cmp.Or(strings.Compare(x.Component, y.Component), strings.Compare(x.Name, y.Name))
	})
	return stores
}

// visible leaves out label sets of other tenants, stores that have no other, and
// warnings, which are for operators.
func visible(stores []StoreStatus, must *labels.Matcher) []StoreStatus {
	var out []StoreStatus
	for _, s := range stores {
		all := len(s.LabelSets)
		s.LabelSets = slices.DeleteFunc(slices.Clone(s.LabelSets), func(l labels.Labels) bool {
			return l.Has(must.Name) && !must.Matches(l.Get(must.Name))
		})
		s.Warnings = nil
		if all == 0 || len(s.LabelSets) > 0 {
			out = append(out, s)
		}
	}
	return out
}
