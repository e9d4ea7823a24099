package sidecar

import (
	"cmp"
	"context"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Rules returns the rules that the server evaluates. Prometheus does not evaluate
// rules on partial results, so all have PartialAbort.
func (s *promStore) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	id, err := s.source.current()
	if err != nil {
		return nil, nil, err
	}
	// All requests are one request to the server, whatever they choose.
	found, err := ask(ctx, s.answers, question{api: apiRules}, s.source.client.Rules)
	if err != nil {
		return nil, nil, failed(s.source, err)
	}
	groups := make([]storeapi.RuleGroup, 0, len(found.Data))
	for _, g := range found.Data {
		out := storeapi.RuleGroup{
			Name: g.Name, File: g.File, Interval: g.Interval, Limit: g.Limit,
			EvaluationTime: g.EvaluationTime, LastEvaluation: g.LastEvaluation, Partial: storeapi.PartialAbort,
		}
		for _, rule := range g.Rules {
			out.Rules = append(out.Rules, ruleOf(rule))
		}
		groups = append(groups, out)
	}
	storeapi.ExternalRules(id.external, groups)
	return storeapi.MergeRules(storeapi.FilterRules(groups, r), nil), marked(s, found), nil
}

func ruleOf(r prom.Rule) storeapi.Rule {
	out := storeapi.Rule{
		Alerting: r.Type == "alerting", Name: r.Name, Query: r.Query, Labels: r.Labels.Labels,
		Health: r.Health, LastError: r.LastError, EvaluationTime: r.EvaluationTime, LastEvaluation: r.LastEvaluation,
	}
	if !out.Alerting {
		return out
	}
	out.State, out.For, out.KeepFiringFor = storeapi.ParseAlertState(r.State), r.Duration, r.KeepFiringFor
	out.Annotations = r.Annotations.Labels
	for _, a := range r.Alerts {
		out.Alerts = append(out.Alerts, storeapi.Alert{
			Labels: a.Labels.Labels, Annotations: a.Annotations.Labels, State: storeapi.ParseAlertState(a.State),
			ActiveAt: a.ActiveAt, Value: a.Value, Partial: storeapi.PartialAbort,
		})
	}
	return out
}

// Targets returns the targets of the server.
func (s *promStore) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	id, err := s.source.current()
	if err != nil {
		return storeapi.Targets{}, nil, err
	}
	subject := map[storeapi.TargetState]string{storeapi.TargetActive: "active", storeapi.TargetDropped: "dropped"}[r.State]
	found, err := s.targets(ctx, subject)
	if err != nil && subject == "" && isDown(err) {
		// The active targets are known more often than all.
		if active, err2 := s.targets(ctx, "active"); err2 == nil {
			found, err = active, nil
		}
	}
	if err != nil {
		return storeapi.Targets{}, nil, failed(s.source, err)
	}
	out := storeapi.Targets{Dropped: make([]labels.Labels, 0, len(found.Data.Dropped))}
	for _, a := range found.Data.Active {
		out.Active = append(out.Active, storeapi.ActiveTarget{
			Discovered: a.Discovered.Labels, Labels: a.Labels.Labels,
			ScrapePool: a.ScrapePool, ScrapeURL: a.ScrapeURL, GlobalURL: a.GlobalURL, LastError: a.LastError,
			LastScrape: a.LastScrape, LastScrapeDuration: a.LastScrapeDuration, Health: storeapi.ParseTargetHealth(a.Health),
		})
	}
	for _, d := range found.Data.Dropped {
		out.Dropped = append(out.Dropped, d.Discovered.Labels)
	}
	storeapi.ExternalTargets(id.external, out)
	out.Choose(r.State)
	return out, marked(s, found), nil
}

// targets asks for the targets of a state, or all for "".
func (s *promStore) targets(ctx context.Context, state string) (known[prom.Targets], error) {
	return ask(ctx, s.answers, question{api: apiTargets, subject: state}, func(ctx context.Context) (prom.Answer[prom.Targets], error) {
		return s.source.client.Targets(ctx, cmp.Or(state, "any"))
	})
}

// TSDBStatus returns the statistics of the head of the server, under the empty
// tenant.
func (s *promStore) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	id, err := s.source.current()
	if err != nil {
		return nil, nil, err
	}
	if !r.ChoosesTSDB(id.external) {
		return nil, nil, nil
	}
	limit := statusLimit(r.Limit)
	answer, err := ask(ctx, s.answers, question{api: apiStatus, span: strconv.Itoa(limit)}, func(ctx context.Context) (prom.Answer[prom.TSDBStatus], error) {
		return s.source.client.TSDBStatus(ctx, limit)
	})
	if err != nil {
		return nil, nil, failed(s.source, err)
	}
	found := answer.Data
	h := found.Head
	stats := storeapi.TSDBStats{
		Series: h.Series, LabelPairs: h.LabelPairs, Chunks: h.Chunks, MinTime: h.MinTime, MaxTime: h.MaxTime,
		SeriesByMetric: countsOf(found.SeriesByMetric), ValuesByLabel: countsOf(found.ValuesByLabel),
		MemoryByLabel: countsOf(found.MemoryByLabel), SeriesByPair: countsOf(found.SeriesByPair),
	}
	stats = storeapi.MergeTSDBStats([]storeapi.TSDBStats{stats}, r.Limit)
	return map[string]storeapi.TSDBStats{"": stats}, marked(s, answer), nil
}

// minStatusLimit is the least limit that the server is asked for, which is the usual one.
const minStatusLimit = 10

// statusLimit is the limit of the request for an answer of at most limit entries: few
// different ones, so that callers share answers.
func statusLimit(limit int) int {
	if limit <= 0 || limit > 10_000 {
		return limit
	}
	n := minStatusLimit
	for n < limit {
		n *= 10
	}
	return n
}

func countsOf(in []prom.NamedCount) []storeapi.NamedCount {
	out := make([]storeapi.NamedCount, 0, len(in))
	for _, c := range in {
		out = append(out, storeapi.NamedCount(c))
	}
	return out
}

var (
	_ storeapi.RuleStore       = (*promStore)(nil)
	_ storeapi.TargetStore     = (*promStore)(nil)
	_ storeapi.TSDBStatusStore = (*promStore)(nil)
)
