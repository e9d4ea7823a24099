package storeapi_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func alerting(name string, state storeapi.AlertState, evaluated int64, lset ...string) storeapi.Rule {
	return storeapi.Rule{
		Alerting: true, Name: name, Query: "up == 0", State: state, LastEvaluation: time.Unix(evaluated, 0),
		Labels: labels.FromStrings(lset...),
	}
}

func group(file, name string, rules ...storeapi.Rule) storeapi.RuleGroup {
	return storeapi.RuleGroup{File: file, Name: name, Rules: rules}
}

func TestMergeRules_JoinsReplicas(t *testing.T) {
	instance := func(id, replica string, state storeapi.AlertState) storeapi.Alert {
		return storeapi.Alert{Labels: labels.FromStrings("instance", id, "replica", replica), State: state}
	}
	a := alerting("Down", storeapi.AlertPending, 20, "replica", "a", "severity", "page")
	a.Alerts = []storeapi.Alert{instance("1", "a", storeapi.AlertPending), instance("2", "a", storeapi.AlertPending)}
	b := alerting("Down", storeapi.AlertFiring, 10, "replica", "b", "severity", "page")
	b.Alerts = []storeapi.Alert{instance("1", "b", storeapi.AlertFiring)}
	other := alerting("Down", storeapi.AlertInactive, 30, "replica", "a", "severity", "ticket")

	ga, gb := group("f", "g", a, other), group("f", "g", b)
	ga.LastEvaluation, ga.EvaluationTime = time.Unix(20, 0), 2
	gb.LastEvaluation, gb.EvaluationTime = time.Unix(30, 0), 3
	got := storeapi.MergeRules([]storeapi.RuleGroup{gb, ga, group("e", "z", a)}, []string{"replica"})
	require.Len(t, got, 2)
	require.Equal(t, "e", got[0].File)
	g := got[1]
	require.Equal(t, 3.0, g.EvaluationTime)
	require.Len(t, g.Rules, 2)
	down := g.Rules[0]
	require.Equal(t, storeapi.AlertFiring, down.State, "the more urgent one stays")
	require.Equal(t, `{severity="page"}`, down.Labels.String())
	require.Len(t, down.Alerts, 2, "what only one replica has is not lost")
	require.Equal(t, `{instance="1"}`, down.Alerts[0].Labels.String())
	require.Equal(t, storeapi.AlertFiring, down.Alerts[0].State)
	require.Equal(t, `{instance="2"}`, down.Alerts[1].Labels.String())
	require.Equal(t, `{severity="ticket"}`, g.Rules[1].Labels.String())
}

func TestMergeRules_EqualStatesKeepTheLaterEvaluation(t *testing.T) {
	old, young := alerting("A", storeapi.AlertInactive, 10), alerting("A", storeapi.AlertInactive, 20)
	old.LastError = "old"
	for _, order := range [][]storeapi.Rule{{old, young}, {young, old}} {
		got := storeapi.MergeRules([]storeapi.RuleGroup{group("f", "g", order...)}, nil)
		require.Len(t, got[0].Rules, 1)
		require.Empty(t, got[0].Rules[0].LastError)
	}
}

func TestMergeRules_KeepsWhatDiffers(t *testing.T) {
	base := alerting("A", storeapi.AlertInactive, 10)
	query, longer, recording := base, base, base
	query.Query, longer.For = "up == 1", 60
	recording.Alerting = false
	got := storeapi.MergeRules([]storeapi.RuleGroup{group("f", "g", base, query, longer, recording)}, []string{"replica"})
	require.Len(t, got[0].Rules, 4)
	require.Equal(t, base.Query, got[0].Rules[0].Query, "the order stays")
}

func TestFilterRules_AppliesAllFields(t *testing.T) {
	recording := storeapi.Rule{Name: "r", Labels: labels.FromStrings("team", "a")}
	template := alerting("T", storeapi.AlertInactive, 0, "team", "{{ $labels.team }}")
	groups := func() []storeapi.RuleGroup {
		return []storeapi.RuleGroup{
			group("f", "g", alerting("A", storeapi.AlertFiring, 0, "team", "a", "severity", "page"), recording, template),
			group("f2", "g2", alerting("B", storeapi.AlertFiring, 0, "team", "b")),
		}
	}
	selectors := func(texts ...string) [][]*labels.Matcher {
		sets, err := parser.NewParser(parser.Options{}).ParseMetricSelectors(texts)
		require.NoError(t, err)
		return sets
	}
	for want, r := range map[string]storeapi.RulesRequest{
		"A r T B": {},
		"A T B":   {Type: storeapi.RuleAlert},
		"r":       {Type: storeapi.RuleRecord},
		"A B":     {Names: []string{"A", "B"}},
		"B":       {Groups: []string{"g2"}},
		"A r T":   {Files: []string{"f"}},
		"A r":     {Matchers: selectors(`{team="a"}`)},
		"A":       {Matchers: selectors(`{team="a"}`, `{severity="page"}`)}, // all sets
		"T":       {Matchers: selectors(`{team=""}`)},                       // a template counts as absent
		"":        {Names: []string{"C"}},
	} {
		got := ""
		for _, g := range storeapi.FilterRules(groups(), &r) {
			require.NotEmpty(t, g.Rules)
			for _, rule := range g.Rules {
				if got != "" {
					got += " "
				}
				got += rule.Name
			}
		}
		require.Equal(t, want, got)
	}
}

// The sidecar of Thanos adds external labels to rules only; its alerts are those of the sidecar
// of this program of the other replica.
func TestCompleteAlerts_AlertHasTheLabelsOfItsRule(t *testing.T) {
	r := alerting("A", storeapi.AlertFiring, 0, "cluster", "eu", "team", "{{ $labels.team }}", "severity", "page")
	r.Alerts = []storeapi.Alert{
		{Labels: labels.FromStrings("alertname", "A", "severity", "page", "job", "a")},
		{Labels: labels.FromStrings("alertname", "A", "cluster", "own", "team", "x")},
	}
	r.CompleteAlerts()
	require.Equal(t, labels.FromStrings("alertname", "A", "cluster", "eu", "severity", "page", "job", "a"), r.Alerts[0].Labels)
	require.Equal(t, labels.FromStrings("alertname", "A", "cluster", "own", "severity", "page", "team", "x"), r.Alerts[1].Labels)

	large := alerting("A", storeapi.AlertFiring, 0, "a", strings.Repeat("x", 1<<20))
	large.Alerts = make([]storeapi.Alert, 1000)
	large.CompleteAlerts()
	require.True(t, large.Alerts[0].Labels.IsEmpty(), "the labels would take a GiB")
}

func TestExternalRules_OverrideOwnLabels(t *testing.T) {
	r := alerting("A", storeapi.AlertFiring, 0, "cluster", "own", "x", "y")
	r.Alerts = []storeapi.Alert{{Labels: labels.FromStrings("cluster", "own")}}
	groups := []storeapi.RuleGroup{group("f", "g", r)}
	storeapi.ExternalRules(labels.FromStrings("cluster", "eu"), groups)
	require.Equal(t, `{cluster="eu", x="y"}`, groups[0].Rules[0].Labels.String())
	require.Equal(t, `{cluster="own"}`, groups[0].Rules[0].Alerts[0].Labels.String(), "an alert is sent as it is, as by Thanos")
}

func TestMergeTargets_JoinsReplicas(t *testing.T) {
	target := func(replica string, h storeapi.TargetHealth, scraped int64) storeapi.ActiveTarget {
		ls := labels.FromStrings("job", "node", "replica", replica)
		return storeapi.ActiveTarget{
			Discovered: ls, Labels: ls, ScrapePool: "node", ScrapeURL: "http://x/metrics", Health: h, LastScrape: time.Unix(scraped, 0),
		}
	}
	other := target("a", storeapi.TargetUp, 1)
	other.ScrapeURL = "http://a/metrics"
	got := storeapi.MergeTargets(storeapi.Targets{
		Active: []storeapi.ActiveTarget{
			target("a", storeapi.TargetUp, 30), target("b", storeapi.TargetDown, 10), target("c", storeapi.TargetDown, 20), other,
		},
		Dropped: []labels.Labels{labels.FromStrings("d", "1", "replica", "a"), labels.FromStrings("d", "1", "replica", "b")},
	}, []string{"replica"})
	require.Len(t, got.Active, 2)
	require.Equal(t, other.ScrapeURL, got.Active[0].ScrapeURL)
	require.Equal(t, storeapi.TargetDown, got.Active[1].Health, "a target that is down for one replica is shown as such")
	require.Equal(t, int64(20), got.Active[1].LastScrape.Unix())
	require.Equal(t, `{job="node"}`, got.Active[1].Labels.String())
	require.Len(t, got.Dropped, 1)

	kept := storeapi.MergeTargets(storeapi.Targets{Active: []storeapi.ActiveTarget{target("a", storeapi.TargetUp, 1), target("b", storeapi.TargetUp, 1)}}, nil)
	require.Len(t, kept.Active, 2)
}

func TestMergeTSDBStats_AddsWithoutOverflow(t *testing.T) {
	count := func(name string, n uint64) storeapi.NamedCount { return storeapi.NamedCount{Name: name, Value: n} }
	a := storeapi.TSDBStats{
		Series: 10, LabelPairs: 4, Chunks: 3, MinTime: 100, MaxTime: 200,
		SeriesByMetric: []storeapi.NamedCount{count("x", 5), count("y", 3)},
		ValuesByLabel:  []storeapi.NamedCount{count("job", 7)},
	}
	b := storeapi.TSDBStats{
		Series: math.MaxUint64, LabelPairs: math.MaxInt64, Chunks: -1, MinTime: 50, MaxTime: 150,
		SeriesByMetric: []storeapi.NamedCount{count("y", 9), count("z", 1)},
		ValuesByLabel:  []storeapi.NamedCount{count("job", 4)},
	}
	got := storeapi.MergeTSDBStats([]storeapi.TSDBStats{a, b}, 2)
	require.Equal(t, uint64(math.MaxUint64), got.Series, "no overflow")
	require.Equal(t, int64(math.MaxInt64), got.LabelPairs)
	require.Equal(t, int64(3), got.Chunks)
	require.Equal(t, [2]int64{50, 200}, [2]int64{got.MinTime, got.MaxTime})
	require.Equal(t, []storeapi.NamedCount{count("y", 12), count("x", 5)}, got.SeriesByMetric)
	require.Equal(t, []storeapi.NamedCount{count("job", 7)}, got.ValuesByLabel, "heads have the same values")
	require.NotNil(t, got.SeriesByPair)
}
