package storeapi

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// FilterRules keeps the rules that r chooses and the groups that have any. It
// uses the memory of groups.
func FilterRules(groups []RuleGroup, r *RulesRequest) []RuleGroup {
	chosen := func(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }
	out := groups[:0]
	for _, g := range groups {
		if !chosen(r.Groups, g.Name) || !chosen(r.Files, g.File) {
			continue
		}
		g.Rules = slices.DeleteFunc(g.Rules, func(rule Rule) bool {
			return r.Type == RuleAlert && !rule.Alerting || r.Type == RuleRecord && rule.Alerting ||
				!chosen(r.Names, rule.Name) || !matchesRule(r.Matchers, rule.Labels)
		})
		if len(g.Rules) > 0 {
			out = append(out, g)
		}
	}
	clear(groups[len(out):])
	return out
}

// matchesRule reports whether the labels satisfy all matchers of all sets.
func matchesRule(sets [][]*labels.Matcher, ls labels.Labels) bool {
	for _, set := range sets {
		for _, m := range set {
			v := ls.Get(m.Name)
			if isTemplate(v) {
				v = ""
			}
			if !m.Matches(v) {
				return false
			}
		}
	}
	return true
}

// isTemplate reports whether the value of a label has an action of a Go template.
func isTemplate(v string) bool {
	_, action, ok := strings.Cut(v, "{{")
	return ok && strings.Contains(action, "}}")
}

// MergeRules joins the groups that have the same file and name, drops the labels
// named in without from rules and alerts, and joins what then are the same
// rules: the one in the more urgent state stays, of equal ones that with the
// later evaluation, with the alerts that only the other one has. Groups are
// sorted by file and name; rules stay in the order in which they came. It uses
// the memory of groups.
func MergeRules(groups []RuleGroup, without []string) []RuleGroup {
	slices.SortStableFunc(groups, func(a, b RuleGroup) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Name, b.Name))
	})
	out := groups[:0]
	for _, g := range groups {
		if n := len(out); n > 0 && out[n-1].File == g.File && out[n-1].Name == g.Name {
			out[n-1].join(g)
		} else {
			out = append(out, g)
		}
	}
	clear(groups[len(out):])
	d := labelDropper{names: without, b: labels.NewBuilder(labels.EmptyLabels())}
	for i := range out {
		out[i].Rules = mergeGroup(out[i].Rules, &d)
	}
	return out
}

// join adds the rules of o, which has the same file and name.
func (g *RuleGroup) join(o RuleGroup) {
	g.Rules = append(slices.Clip(g.Rules), o.Rules...)
	if o.LastEvaluation.After(g.LastEvaluation) {
		g.LastEvaluation, g.EvaluationTime = o.LastEvaluation, o.EvaluationTime
	}
}

// ruleKey identifies a rule in its group; equal ones are the same rule.
type ruleKey struct {
	alerting            bool
	name, query, labels string
	duration            float64
}

// mergeGroup merges rules of one group that are equal without the labels that d
// drops. Of equal rules the one in the more urgent state stays, then the one
// evaluated last, with the alerts of both. The order of the first occurrences is
// kept. The result uses the memory of rules.
func mergeGroup(rules []Rule, d *labelDropper) []Rule {
	at := make(map[ruleKey]int, len(rules))
	out := rules[:0]
	var buf []byte
	for _, r := range rules {
		r.Labels = d.drop(r.Labels)
		for i := range r.Alerts {
			r.Alerts[i].Labels = d.drop(r.Alerts[i].Labels)
		}
		buf = r.Labels.Bytes(buf)
		key := ruleKey{alerting: r.Alerting, name: r.Name, query: r.Query, labels: string(buf), duration: r.For}
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			r.Alerts = mergeAlerts(r.Alerts, nil)
			out = append(out, r)
			continue
		}
		winner, other := out[i], r
		if cmp.Or(cmp.Compare(r.State, winner.State), r.LastEvaluation.Compare(winner.LastEvaluation)) > 0 {
			winner, other = r, winner
		}
		winner.Alerts = mergeAlerts(winner.Alerts, other.Alerts)
		out[i] = winner
	}
	clear(rules[len(out):])
	return out
}

// mergeAlerts returns the first alerts and those of more that have other labels.
// Of equal labels the more urgent state stays.
func mergeAlerts(first, more []Alert) []Alert {
	at := make(map[string]int, len(first)+len(more))
	var out []Alert
	var buf []byte
	for _, part := range [][]Alert{first, more} {
		for _, a := range part {
			buf = a.Labels.Bytes(buf)
			i, ok := at[string(buf)]
			switch {
			case !ok:
				at[string(buf)] = len(out)
				out = append(out, a)
			case a.State > out[i].State:
				out[i] = a
			}
		}
	}
	return out
}

// labelDropper removes labels by name.
type labelDropper struct {
	names []string
	b     *labels.Builder
}

func (d *labelDropper) drop(ls labels.Labels) labels.Labels {
	if !slices.ContainsFunc(d.names, ls.Has) {
		return ls
	}
	d.b.Reset(ls)
	return d.b.Del(d.names...).Labels()
}

// maxAddedLabels bounds the bytes of labels that CompleteAlerts adds to the alerts of a rule, next
// to four times the bytes of their own labels, so that no answer grows without bound.
const maxAddedLabels = 1 << 20

// CompleteAlerts adds to each alert the labels of its rule that it lacks: the external labels,
// which are on rules only (see ExternalRules). Labels whose value is a template stay out: the alert lacks such a label if its value was empty. A rule
// with more labels than its alerts can have in bounded memory stays as it is. It changes r.
func (r *Rule) CompleteAlerts() {
	own, one := 0, 0
	for _, a := range r.Alerts {
		a.Labels.Range(func(l labels.Label) { own += len(l.Name) + len(l.Value) })
	}
	r.Labels.Range(func(l labels.Label) { one += len(l.Name) + len(l.Value) })
	if one*len(r.Alerts) > 4*own+maxAddedLabels {
		return
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	for i := range r.Alerts {
		b.Reset(r.Alerts[i].Labels)
		r.Labels.Range(func(l labels.Label) {
			if !isTemplate(l.Value) && !r.Alerts[i].Labels.Has(l.Name) {
				b.Set(l.Name, l.Value)
			}
		})
		r.Alerts[i].Labels = b.Labels()
	}
}

// ExternalRules adds the external labels to all rules, over labels of the same name. Alerts stay
// as they are, as in Thanos, whose querier removes replica labels from rules only. It changes
// groups.
func ExternalRules(ext labels.Labels, groups []RuleGroup) {
	for _, g := range groups {
		for i := range g.Rules {
			g.Rules[i].Labels = overlay(g.Rules[i].Labels, ext)
		}
	}
}

// overlay returns ls with the labels of ext, over labels of the same name.
func overlay(ls, ext labels.Labels) labels.Labels {
	b := labels.NewBuilder(ls)
	ext.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Labels()
}
