package promapi

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

type activeTargetJSON struct {
	Discovered         labels.Labels `json:"discoveredLabels"`
	Labels             labels.Labels `json:"labels"`
	ScrapePool         string        `json:"scrapePool"`
	ScrapeURL          string        `json:"scrapeUrl"`
	GlobalURL          string        `json:"globalUrl"`
	LastError          string        `json:"lastError"`
	LastScrape         time.Time     `json:"lastScrape"`
	LastScrapeDuration float64       `json:"lastScrapeDuration"`
	Health             string        `json:"health"`
	// The protocol does not carry these; they are the discovered ones.
	ScrapeInterval string `json:"scrapeInterval,omitempty"`
	ScrapeTimeout  string `json:"scrapeTimeout,omitempty"`
}

type droppedTargetJSON struct {
	Discovered labels.Labels `json:"discoveredLabels"`
}

// targets answers the targets of all servers, with replicas merged.
func (a *API) targets(w http.ResponseWriter, r *http.Request) {
	state := storeapi.TargetAny
	switch s := r.Form.Get("state"); s {
	case "", "any":
	case "active":
		state = storeapi.TargetActive
	case "dropped":
		state = storeapi.TargetDropped
	default:
		badData(w, fmt.Errorf("invalid parameter \"state\": %q is not a state of targets (choose active, dropped or any)", s))
		return
	}
	found, warnings, ok := a.fetchTargets(w, r, state)
	if !ok {
		return
	}
	data := struct {
		Active  []activeTargetJSON  `json:"activeTargets"`
		Dropped []droppedTargetJSON `json:"droppedTargets"`
	}{make([]activeTargetJSON, 0, len(found.Active)), make([]droppedTargetJSON, 0, len(found.Dropped))}
	pool := r.Form.Get("scrapePool")
	for _, t := range found.Active {
		if pool != "" && t.ScrapePool != pool {
			continue
		}
		data.Active = append(data.Active, activeTargetJSON{
			Discovered: t.Discovered, Labels: t.Labels, ScrapePool: t.ScrapePool, ScrapeURL: t.ScrapeURL, GlobalURL: t.GlobalURL,
			LastError: t.LastError, LastScrape: t.LastScrape, LastScrapeDuration: t.LastScrapeDuration, Health: t.Health.String(),
			ScrapeInterval: t.Discovered.Get(model.ScrapeIntervalLabel), ScrapeTimeout: t.Discovered.Get(model.ScrapeTimeoutLabel),
		})
	}
	for _, ls := range found.Dropped {
		data.Dropped = append(data.Dropped, droppedTargetJSON{Discovered: ls})
	}
	writeData(w, data, warnings)
}

// scrapePools answers the names of the pools that have a target.
func (a *API) scrapePools(w http.ResponseWriter, r *http.Request) {
	found, warnings, ok := a.fetchTargets(w, r, storeapi.TargetActive)
	if !ok {
		return
	}
	names := []string{}
	for _, t := range found.Active {
		names = append(names, t.ScrapePool)
	}
	slices.Sort(names)
	writeData(w, map[string][]string{"scrapePools": slices.Compact(names)}, warnings)
}

// fetchTargets asks for the targets that the tenant may see. When ok is false it
// has answered with the error.
func (a *API) fetchTargets(w http.ResponseWriter, r *http.Request, state storeapi.TargetState) (found storeapi.Targets, warnings []string, ok bool) {
	if a.cfg.Lists.Targets == nil {
		return found, nil, true
	}
	l := listRequestOf(r, a.cfg.Lists.TargetsPartial)
	found, ws, err := a.cfg.Lists.Targets.Targets(r.Context(), &storeapi.TargetsRequest{
		State: state, Partial: l.partial, StoreMatchers: l.params.StoreMatchers,
	})
	if err != nil {
		writeListError(w, r, "collect targets", err)
		return found, nil, false
	}
	if m := l.params.Enforced; m != nil {
		found.Active = slices.DeleteFunc(found.Active, func(t storeapi.ActiveTarget) bool { return !m.Matches(t.Labels.Get(m.Name)) })
		found.Dropped = slices.DeleteFunc(found.Dropped, func(ls labels.Labels) bool { return !m.Matches(ls.Get(m.Name)) })
	}
	return storeapi.MergeTargets(found, l.without), reported(r.Context(), ws), true
}
