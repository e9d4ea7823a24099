package promapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

type ruleGroupJSON struct {
	Name           string    `json:"name"`
	File           string    `json:"file"`
	Rules          []any     `json:"rules"`
	Interval       float64   `json:"interval"`
	Limit          int64     `json:"limit"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
	Partial        string    `json:"partialResponseStrategy"`
}

type alertingRuleJSON struct {
	State          string        `json:"state"`
	Name           string        `json:"name"`
	Query          string        `json:"query"`
	Duration       float64       `json:"duration"`
	KeepFiringFor  float64       `json:"keepFiringFor"`
	Labels         labels.Labels `json:"labels"`
	Annotations    labels.Labels `json:"annotations"`
	Alerts         []alertJSON   `json:"alerts"`
	Health         string        `json:"health"`
	LastError      string        `json:"lastError,omitempty"`
	EvaluationTime float64       `json:"evaluationTime"`
	LastEvaluation time.Time     `json:"lastEvaluation"`
	Type           string        `json:"type"`
}

type recordingRuleJSON struct {
	Name           string        `json:"name"`
	Query          string        `json:"query"`
	Labels         labels.Labels `json:"labels"`
	Health         string        `json:"health"`
	LastError      string        `json:"lastError,omitempty"`
	EvaluationTime float64       `json:"evaluationTime"`
	LastEvaluation time.Time     `json:"lastEvaluation"`
	Type           string        `json:"type"`
}

type alertJSON struct {
	Labels      labels.Labels `json:"labels"`
	Annotations labels.Labels `json:"annotations"`
	State       string        `json:"state"`
	ActiveAt    *time.Time    `json:"activeAt,omitempty"`
	Value       string        `json:"value"`
	Partial     string        `json:"partialResponseStrategy"`
}

// rules answers the groups of all servers, with replicas merged.
func (a *API) rules(w http.ResponseWriter, r *http.Request) {
	l := listRequestOf(r, a.cfg.Lists.RulesPartial)
	page, err := pageOf(r)
	if err != nil {
		badData(w, err)
		return
	}
	var noAlerts bool
	if err := parseBool(r.Form.Get("exclude_alerts"), &noAlerts); err != nil {
		badData(w, fmt.Errorf("invalid parameter \"exclude_alerts\": %w", err))
		return
	}
	req := &storeapi.RulesRequest{
		Names: r.Form["rule_name[]"], Groups: r.Form["rule_group[]"], Files: r.Form["file[]"],
	}
	switch t := r.Form.Get("type"); t {
	case "":
	case "alert":
		req.Type = storeapi.RuleAlert
	case "record":
		req.Type = storeapi.RuleRecord
	default:
		badData(w, fmt.Errorf("invalid parameter \"type\": %q is not a type of rules (choose alert or record)", t))
		return
	}
	groups, warnings, ok := a.fetchRules(w, r, l, req)
	if !ok {
		return
	}
	groups, next, err := page.of(groups)
	if err != nil {
		badData(w, err)
		return
	}
	data := struct {
		Groups []ruleGroupJSON `json:"groups"`
		Next   string          `json:"groupNextToken,omitempty"`
	}{make([]ruleGroupJSON, 0, len(groups)), next}
	for _, g := range groups {
		data.Groups = append(data.Groups, groupJSON(g, noAlerts))
	}
	writeData(w, data, warnings)
}

// alerts answers the active alerts of all rules.
func (a *API) alerts(w http.ResponseWriter, r *http.Request) {
	l := listRequestOf(r, a.cfg.Lists.RulesPartial)
	groups, warnings, ok := a.fetchRules(w, r, l, &storeapi.RulesRequest{Type: storeapi.RuleAlert})
	if !ok {
		return
	}
	data := struct {
		Alerts []alertJSON `json:"alerts"`
	}{[]alertJSON{}}
	for _, g := range groups {
		for _, rule := range g.Rules {
			data.Alerts = append(data.Alerts, alertsJSON(rule.Alerts)...)
		}
	}
	writeData(w, data, warnings)
}

// fetchRules completes the request and asks for the rules. When ok is false it
// has answered with the error.
func (a *API) fetchRules(w http.ResponseWriter, r *http.Request, l listRequest, req *storeapi.RulesRequest) (groups []storeapi.RuleGroup, warnings []string, ok bool) {
	var err error
	if req.Matchers, err = a.matchers(r, l.params.Enforced); err != nil {
		badData(w, err)
		return nil, nil, false
	}
	if a.cfg.Lists.Rules == nil {
		return nil, nil, true
	}
	req.Partial, req.StoreMatchers = l.partial, l.params.StoreMatchers
	groups, ws, err := a.cfg.Lists.Rules.Rules(r.Context(), req)
	if err != nil {
		writeListError(w, r, "collect rules", err)
		return nil, nil, false
	}
	for _, g := range groups {
		for i := range g.Rules {
			g.Rules[i].CompleteAlerts()
		}
	}
	return storeapi.MergeRules(groups, l.without), reported(r.Context(), ws), true
}

func groupJSON(g storeapi.RuleGroup, noAlerts bool) ruleGroupJSON {
	out := ruleGroupJSON{
		Name: g.Name, File: g.File, Interval: g.Interval, Limit: g.Limit, EvaluationTime: g.EvaluationTime,
		LastEvaluation: g.LastEvaluation, Partial: strategyJSON(g.Partial), Rules: make([]any, 0, len(g.Rules)),
	}
	for _, r := range g.Rules {
		if !r.Alerting {
			out.Rules = append(out.Rules, recordingRuleJSON{
				Name: r.Name, Query: r.Query, Labels: r.Labels, Health: r.Health, LastError: r.LastError,
				EvaluationTime: r.EvaluationTime, LastEvaluation: r.LastEvaluation, Type: "recording",
			})
			continue
		}
		if noAlerts {
			r.Alerts = nil
		}
		out.Rules = append(out.Rules, alertingRuleJSON{
			State: r.State.String(), Name: r.Name, Query: r.Query, Duration: r.For, KeepFiringFor: r.KeepFiringFor,
			Labels: r.Labels, Annotations: r.Annotations, Alerts: alertsJSON(r.Alerts), Health: r.Health, LastError: r.LastError,
			EvaluationTime: r.EvaluationTime, LastEvaluation: r.LastEvaluation, Type: "alerting",
		})
	}
	return out
}

func alertsJSON(alerts []storeapi.Alert) []alertJSON {
	out := make([]alertJSON, 0, len(alerts))
	for _, a := range alerts {
		j := alertJSON{
			Labels: a.Labels, Annotations: a.Annotations, State: a.State.String(), Value: a.Value, Partial: strategyJSON(a.Partial),
		}
		if !a.ActiveAt.IsZero() {
			j.ActiveAt = &a.ActiveAt
		}
		out = append(out, j)
	}
	return out
}

func strategyJSON(p storeapi.PartialResponse) string {
	if p == storeapi.PartialAbort {
		return "ABORT"
	}
	return "WARN"
}

// rulePage is the part of the groups that a request wants: at most limit of them,
// from the one that token names. No limit wants all.
type rulePage struct {
	limit int
	token string
}

func pageOf(r *http.Request) (rulePage, error) {
	p := rulePage{token: r.Form.Get("group_next_token")}
	text := r.Form.Get("group_limit")
	if text == "" {
		if p.token != "" {
			return p, errors.New("invalid parameter \"group_next_token\": it needs a group_limit, the size of a page")
		}
		return p, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return p, fmt.Errorf("invalid parameter \"group_limit\": %q is not a positive number", text)
	}
	p.limit = int(n)
	return p, nil
}

// of returns the page, and the token of the next one when there is one.
func (p rulePage) of(groups []storeapi.RuleGroup) (page []storeapi.RuleGroup, next string, err error) {
	if p.limit == 0 {
		return groups, "", nil
	}
	if p.token != "" {
		for len(groups) > 0 && groupToken(groups[0]) != p.token {
			groups = groups[1:]
		}
		if len(groups) == 0 {
			return nil, "", fmt.Errorf("invalid parameter \"group_next_token\": no group has the token %q; the rules may have changed", p.token)
		}
	}
	if len(groups) <= p.limit {
		return groups, "", nil
	}
	return groups[:p.limit], groupToken(groups[p.limit]), nil
}

// groupToken names a group in the way of Prometheus.
func groupToken(g storeapi.RuleGroup) string {
	sum := sha256.Sum256([]byte(g.File + ";" + g.Name))
	return hex.EncodeToString(sum[:])
}
