package storerpc

import (
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// Bounds of what a request for rules may say.
const (
	maxRuleMatchers     = 100      // selectors
	maxRuleMatcherBytes = 16 << 10 // in all selectors
)

// RegisterRules serves s as thanos.Rules.
func RegisterRules(r grpc.ServiceRegistrar, s storeapi.RuleStore) {
	storepb.RegisterRulesServer(r, &rulesServer{store: s, promql: parser.NewParser(parser.Options{})})
}

type rulesServer struct {
	store  storeapi.RuleStore
	promql parser.Parser
}

// Rules streams one group a message.
func (s *rulesServer) Rules(in *storepb.RulesRequest, stream grpc.ServerStreamingServer[storepb.RulesResponse]) error {
	matchers, err := s.matchers(in.GetMatcherString())
	if err != nil {
		return toStatus(err)
	}
	if t := in.GetType(); t < storepb.RulesRequest_ALL || t > storepb.RulesRequest_RECORD {
		return toStatus(fmt.Errorf("%w: there is no type %d of rules", storeapi.ErrInvalid, t))
	}
	r := &storeapi.RulesRequest{
		Type: storeapi.RuleType(in.GetType()), Matchers: matchers,
		Names: in.GetRuleName(), Groups: in.GetRuleGroup(), Files: in.GetFile(),
		Partial: strategyFromWire(false, in.GetPartialResponseStrategy()),
	}
	groups, ws, err := s.store.Rules(incoming(stream.Context()), r)
	if err != nil {
		return toStatus(err)
	}
	if err := sendWarnings("rules", r.Partial, ws, func(w string) error {
		return stream.Send(&storepb.RulesResponse{Result: &storepb.RulesResponse_Warning{Warning: w}})
	}); err != nil {
		return err
	}
	for _, g := range groups {
		if err := stream.Send(&storepb.RulesResponse{Result: &storepb.RulesResponse_Group{Group: groupToWire(g)}}); err != nil {
			return fmt.Errorf("send rules: %w", err)
		}
	}
	return nil
}

func (s *rulesServer) matchers(texts []string) ([][]*labels.Matcher, error) {
	size := 0
	for _, t := range texts {
		size += len(t)
	}
	if len(texts) > maxRuleMatchers || size > maxRuleMatcherBytes {
		return nil, fmt.Errorf("%w: %d selectors of %d bytes, at most %d of %d bytes are accepted",
			storeapi.ErrInvalid, len(texts), size, maxRuleMatchers, maxRuleMatcherBytes)
	}
	if len(texts) == 0 {
		return nil, nil
	}
	sets, err := s.promql.ParseMetricSelectors(texts)
	if err != nil {
		return nil, fmt.Errorf("%w: parse the selectors: %w", storeapi.ErrInvalid, err)
	}
	return sets, nil
}

// Rules asks the remote server, which must offer the Rules service. It implements
// storeapi.RuleStore.
func (c *Client) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	in := &storepb.RulesRequest{
		Type: storepb.RulesRequest_Type(r.Type), RuleName: r.Names, RuleGroup: r.Groups, File: r.Files,
		PartialResponseStrategy: strategyToWire(r.Partial),
	}
	for _, set := range r.Matchers {
		in.MatcherString = append(in.MatcherString, selectorText(set))
	}
	var groups []storeapi.RuleGroup
	var ws texts
	l := listing[*storepb.RulesResponse]{
		doing: "fetch rules from " + c.name, budget: r.Budget,
		use: func(m *storepb.RulesResponse) {
			if w := m.GetWarning(); w != "" {
				ws.add([]byte(w))
			}
			if g := m.GetGroup(); g != nil {
				groups = append(groups, groupFromWire(g))
			}
		},
	}
	err := l.read(ctx, func(ctx context.Context) (grpc.ClientStream, error) {
		return c.rules.Rules(ctx, in, c.callOptions...)
	}, &storepb.RulesResponse{})
	if err != nil {
		return nil, nil, err
	}
	// Servers need not look at anything but the type.
	return storeapi.MergeRules(storeapi.FilterRules(groups, r), nil), c.warnings(ws), nil
}

// selectorText prints the matchers as a metric selector.
func selectorText(ms []*labels.Matcher) string {
	parts := make([]string, 0, len(ms))
	for _, m := range ms {
		parts = append(parts, m.String())
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func groupToWire(g storeapi.RuleGroup) *storepb.RuleGroup {
	out := &storepb.RuleGroup{
		Name: g.Name, File: g.File, Interval: g.Interval, Limit: g.Limit,
		EvaluationDurationSeconds: g.EvaluationTime, LastEvaluation: timeToWire(g.LastEvaluation),
		PartialResponseStrategy: strategyToWire(g.Partial),
		Rules:                   make([]*storepb.Rule, 0, len(g.Rules)),
	}
	for _, r := range g.Rules {
		if r.Alerting {
			out.Rules = append(out.Rules, &storepb.Rule{Result: &storepb.Rule_Alert{Alert: alertToWire(r)}})
			continue
		}
		out.Rules = append(out.Rules, &storepb.Rule{Result: &storepb.Rule_Recording{Recording: &storepb.RecordingRule{
			Name: r.Name, Query: r.Query, Labels: labelsToWire(r.Labels), Health: r.Health, LastError: r.LastError,
			EvaluationDurationSeconds: r.EvaluationTime, LastEvaluation: timeToWire(r.LastEvaluation),
		}}})
	}
	return out
}

func alertToWire(r storeapi.Rule) *storepb.Alert {
	out := &storepb.Alert{
		State: storepb.AlertState(r.State), Name: r.Name, Query: r.Query,
		DurationSeconds: r.For, KeepFiringForSeconds: r.KeepFiringFor,
		Labels: labelsToWire(r.Labels), Annotations: labelsToWire(r.Annotations),
		Health: r.Health, LastError: r.LastError,
		EvaluationDurationSeconds: r.EvaluationTime, LastEvaluation: timeToWire(r.LastEvaluation),
	}
	for _, a := range r.Alerts {
		w := &storepb.AlertInstance{
			Labels: labelsToWire(a.Labels), Annotations: labelsToWire(a.Annotations),
			State: storepb.AlertState(a.State), Value: a.Value, PartialResponseStrategy: strategyToWire(a.Partial),
		}
		if !a.ActiveAt.IsZero() {
			w.ActiveAt = timeToWire(a.ActiveAt)
		}
		out.Alerts = append(out.Alerts, w)
	}
	return out
}

func groupFromWire(g *storepb.RuleGroup) storeapi.RuleGroup {
	out := storeapi.RuleGroup{
		Name: textFromWire(g.GetName()), File: textFromWire(g.GetFile()),
		Interval: numberFromWire(g.GetInterval()), Limit: g.GetLimit(),
		EvaluationTime: numberFromWire(g.GetEvaluationDurationSeconds()), LastEvaluation: timeFromWire(g.GetLastEvaluation()),
		Partial: strategyFromWire(false, g.GetPartialResponseStrategy()),
		Rules:   make([]storeapi.Rule, 0, len(g.GetRules())),
	}
	for _, r := range g.GetRules() {
		if a := r.GetAlert(); a != nil {
			out.Rules = append(out.Rules, alertFromWire(a))
		}
		if r := r.GetRecording(); r != nil {
			out.Rules = append(out.Rules, storeapi.Rule{
				Name: textFromWire(r.GetName()), Query: textFromWire(r.GetQuery()), Labels: labelTextFromWire(r.GetLabels()),
				Health: textFromWire(r.GetHealth()), LastError: textFromWire(r.GetLastError()),
				EvaluationTime: numberFromWire(r.GetEvaluationDurationSeconds()), LastEvaluation: timeFromWire(r.GetLastEvaluation()),
			})
		}
	}
	return out
}

func alertFromWire(r *storepb.Alert) storeapi.Rule {
	out := storeapi.Rule{
		Alerting: true, State: stateFromWire(r.GetState()),
		Name: textFromWire(r.GetName()), Query: textFromWire(r.GetQuery()),
		For: numberFromWire(r.GetDurationSeconds()), KeepFiringFor: numberFromWire(r.GetKeepFiringForSeconds()),
		Labels: labelTextFromWire(r.GetLabels()), Annotations: labelTextFromWire(r.GetAnnotations()),
		Health: textFromWire(r.GetHealth()), LastError: textFromWire(r.GetLastError()),
		EvaluationTime: numberFromWire(r.GetEvaluationDurationSeconds()), LastEvaluation: timeFromWire(r.GetLastEvaluation()),
		Alerts: make([]storeapi.Alert, 0, len(r.GetAlerts())),
	}
	for _, a := range r.GetAlerts() {
		out.Alerts = append(out.Alerts, storeapi.Alert{
			Labels: labelTextFromWire(a.GetLabels()), Annotations: labelTextFromWire(a.GetAnnotations()),
			State: stateFromWire(a.GetState()), ActiveAt: timeFromWire(a.GetActiveAt()),
			Value: textFromWire(a.GetValue()), Partial: strategyFromWire(false, a.GetPartialResponseStrategy()),
		})
	}
	return out
}

// stateFromWire gives numbers that mean nothing here the least urgent meaning.
func stateFromWire(s storepb.AlertState) storeapi.AlertState {
	if s < storepb.AlertState_UNKNOWN || s > storepb.AlertState_FIRING {
		return storeapi.AlertUnknown
	}
	return storeapi.AlertState(s)
}
