package sidecar

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// Answers of Prometheus, shortened.
const (
	rulesJSON = `{"groups":[{"name":"g","file":"/etc/rules.yml","rules":[
		{"state":"firing","name":"Down","query":"up == 0","duration":60,"keepFiringFor":30,"labels":{"severity":"page","cluster":"own"},
		 "annotations":{"summary":"down"},"alerts":[{"labels":{"alertname":"Down","cluster":"own"},"annotations":{"summary":"x"},"state":"firing",
		 "activeAt":"2023-11-14T22:13:20.5Z","value":"1e+00"}],"health":"ok","evaluationTime":0.25,"lastEvaluation":"2023-11-14T22:13:20Z","type":"alerting"},
		{"name":"up:sum","query":"sum(up)","health":"err","lastError":"bad","evaluationTime":0.5,"lastEvaluation":"2023-11-14T22:13:20Z","type":"recording"}],
		"interval":15,"limit":5,"evaluationTime":0.75,"lastEvaluation":"2023-11-14T22:13:20Z"}]}`
	targetsJSON = `{"activeTargets":[{"discoveredLabels":{"__address__":"n:1"},"labels":{"job":"node"},"scrapePool":"node",
		"scrapeUrl":"http://n:1/metrics","globalUrl":"http://h:1/metrics","lastError":"refused","lastScrape":"2023-11-14T22:13:20Z",
		"lastScrapeDuration":0.5,"health":"down","scrapeInterval":"15s","scrapeTimeout":"10s"}],
		"droppedTargets":[{"discoveredLabels":{"__address__":"d:1"},"scrapePool":"node"}],"droppedTargetCounts":{"node":1}}`
	statusJSON = `{"headStats":{"numSeries":508,"numLabelPairs":11,"chunkCount":937,"minTime":1591516800000,"maxTime":1598896800143},
		"seriesCountByMetricName":[{"name":"up","value":20},{"name":"x","value":5}],"labelValueCountByLabelName":[{"name":"job","value":2}],
		"memoryInBytesByLabelName":[{"name":"job","value":128}],"seriesCountByLabelValuePair":[{"name":"job=node","value":25}]}`
)

// answering serves fixed data of some paths; asked are the questions.
func answering(data map[string]string, asked *[]string) promtest.Options {
	return promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "1"), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d, ok := data[r.URL.Path]
			if !ok {
				next.ServeHTTP(w, r)
				return
			}
			*asked = append(*asked, r.URL.String())
			if d == "" {
				http.Error(w, `{"status":"error","error":"starting"}`, http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintf(w, `{"status":"success","data":%s,"warnings":["careful"]}`, d)
		})
	}}
}

func listed() map[string]string {
	return map[string]string{"/api/v1/rules": rulesJSON, "/api/v1/targets": targetsJSON, "/api/v1/status/tsdb": statusJSON}
}

func TestRules_AddsExternalLabels(t *testing.T) {
	var asked []string
	st := newStore(t, promtest.New(t, answering(listed(), &asked)))
	at := time.Unix(1_700_000_000, 0).UTC()
	groups, ws, err := st.Rules(t.Context(), &storeapi.RulesRequest{})
	require.NoError(t, err)
	require.Len(t, ws, 1)
	require.Equal(t, "careful", ws[0].Text)
	want := storeapi.RuleGroup{
		Name: "g", File: "/etc/rules.yml", Interval: 15, Limit: 5, EvaluationTime: 0.75, LastEvaluation: at, Partial: storeapi.PartialAbort,
		Rules: []storeapi.Rule{
			{
				Alerting: true, State: storeapi.AlertFiring, Name: "Down", Query: "up == 0", For: 60, KeepFiringFor: 30,
				Labels:      labels.FromStrings("cluster", "eu", "replica", "1", "severity", "page"),
				Annotations: labels.FromStrings("summary", "down"), Health: "ok", EvaluationTime: 0.25, LastEvaluation: at,
				Alerts: []storeapi.Alert{{
					Labels:      labels.FromStrings("alertname", "Down", "cluster", "own"),
					Annotations: labels.FromStrings("summary", "x"), State: storeapi.AlertFiring,
					ActiveAt: at.Add(500 * time.Millisecond), Value: "1e+00", Partial: storeapi.PartialAbort,
				}},
			},
			{
				Name: "up:sum", Query: "sum(up)", Labels: labels.FromStrings("cluster", "eu", "replica", "1"),
				Health: "err", LastError: "bad", EvaluationTime: 0.5, LastEvaluation: at,
			},
		},
	}
	require.Equal(t, []storeapi.RuleGroup{want}, groups)

	groups, _, err = st.Rules(t.Context(), &storeapi.RulesRequest{Type: storeapi.RuleRecord, Names: []string{"up:sum"}})
	require.NoError(t, err)
	require.Len(t, groups[0].Rules, 1)
	groups, _, err = st.Rules(t.Context(), &storeapi.RulesRequest{Matchers: [][]*labels.Matcher{{eq("replica", "2")}}})
	require.NoError(t, err)
	require.Empty(t, groups, "matchers are on external labels, too")
	require.Equal(t, []string{"/api/v1/rules"}, asked, "whatever the requests choose")
}

func TestTargets_AddsExternalLabels(t *testing.T) {
	var asked []string
	st := newStore(t, promtest.New(t, answering(listed(), &asked)))
	got, _, err := st.Targets(t.Context(), &storeapi.TargetsRequest{})
	require.NoError(t, err)
	require.Equal(t, storeapi.Targets{
		Active: []storeapi.ActiveTarget{{
			Discovered: labels.FromStrings("__address__", "n:1", "cluster", "eu", "replica", "1"),
			Labels:     labels.FromStrings("cluster", "eu", "job", "node", "replica", "1"),
			ScrapePool: "node", ScrapeURL: "http://n:1/metrics", GlobalURL: "http://h:1/metrics", LastError: "refused",
			LastScrape: time.Unix(1_700_000_000, 0).UTC(), LastScrapeDuration: 0.5, Health: storeapi.TargetDown,
		}},
		Dropped: []labels.Labels{labels.FromStrings("__address__", "d:1", "cluster", "eu", "replica", "1")},
	}, got)
	for _, s := range []storeapi.TargetState{storeapi.TargetActive, storeapi.TargetDropped} {
		got, _, err = st.Targets(t.Context(), &storeapi.TargetsRequest{State: s})
		require.NoError(t, err)
		require.Equal(t, 1, len(got.Active)+len(got.Dropped), "whatever the server knows of states")
	}
	require.Equal(t, []string{"/api/v1/targets?state=any", "/api/v1/targets?state=active", "/api/v1/targets?state=dropped"}, asked)
}

func TestTSDBStatus_ReturnsHead(t *testing.T) {
	var asked []string
	st := newStore(t, promtest.New(t, answering(listed(), &asked)))
	got, _, err := st.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 1, Matchers: []*labels.Matcher{eq("cluster", "eu"), eq("tenant_id", "")}})
	require.NoError(t, err)
	require.Equal(t, map[string]storeapi.TSDBStats{"": {
		Series: 508, LabelPairs: 11, Chunks: 937, MinTime: 1591516800000, MaxTime: 1598896800143,
		SeriesByMetric: []storeapi.NamedCount{{Name: "up", Value: 20}},
		ValuesByLabel:  []storeapi.NamedCount{{Name: "job", Value: 2}},
		MemoryByLabel:  []storeapi.NamedCount{{Name: "job", Value: 128}},
		SeriesByPair:   []storeapi.NamedCount{{Name: "job=node", Value: 25}},
	}}, got)
	for _, m := range []*labels.Matcher{eq("cluster", "us"), eq("tenant_id", "red")} {
		got, _, err = st.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 1, Matchers: []*labels.Matcher{m}})
		require.NoError(t, err)
		require.Empty(t, got)
	}
	require.Equal(t, []string{"/api/v1/status/tsdb?limit=10"}, asked)
}

func TestListings_FailWithPrometheus(t *testing.T) {
	var asked []string
	data := map[string]string{"/api/v1/rules": "", "/api/v1/targets": "", "/api/v1/status/tsdb": ""}
	s := promtest.New(t, answering(data, &asked))
	st := newStore(t, s)
	ask := func() []error {
		_, _, err1 := st.Rules(t.Context(), &storeapi.RulesRequest{})
		_, _, err2 := st.Targets(t.Context(), &storeapi.TargetsRequest{})
		_, _, err3 := st.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 1})
		return []error{err1, err2, err3}
	}
	for _, err := range ask() {
		require.ErrorIs(t, err, storeapi.ErrUnavailable)
		require.ErrorContains(t, err, "starting")
	}
	for path := range data {
		data[path] = `[{`
	}
	for _, err := range ask() {
		require.ErrorContains(t, err, "decode the answer")
	}
	// Texts that no label set can hold are cut.
	data["/api/v1/rules"] = strings.Replace(rulesJSON, `"down"`, `"`+strings.Repeat("x", 17<<20)+`"`, 1)
	groups, _, err := st.Rules(t.Context(), &storeapi.RulesRequest{})
	require.NoError(t, err)
	require.Len(t, groups[0].Rules[0].Annotations.Get("summary"), 1<<20)
	st = newStore(t, s)
	data["/api/v1/rules"] = `{"groups":[{"name":"` + strings.Repeat("x", 65<<20) + `"}]}`
	_, _, err = st.Rules(t.Context(), &storeapi.RulesRequest{})
	require.ErrorContains(t, err, "larger than allowed")
}

func TestInfo_AnnouncesWhatItServes(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: one("cluster", "eu")})
	st := newStore(t, s)
	storetest.AnnouncesWhatItServes(t, (&Sidecar{store: st, source: st.source}).RegisterGRPC)
}
