package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

const ruleFile = `
groups:
  - name: always
    limit: 10
    rules:
      - alert: AlwaysOn
        expr: vector(1)
        for: 0s
        labels: {severity: page}
        annotations: {summary: 'value {{ $value }}'}
      - record: up:sum
        expr: sum(up)
`

// addRules adds the rule file to a Prometheus of the site.
func addRules(t *testing.T, s *harness.Site, name string) {
	t.Helper()
	rules := s.Path("rules.yml")
	require.NoError(t, os.WriteFile(rules, []byte(ruleFile), 0o600))
	path := s.Path(name + ".yml")
	config, err := os.ReadFile(path)
	require.NoError(t, err)
	text := strings.Replace(string(config), "\nglobal:\n", "\nglobal:\n  evaluation_interval: 1s\n", 1)
	require.NotEqual(t, string(config), text)
	own := strings.Replace(text, "\nrule_files: [rules.yml]\n", fmt.Sprintf("\nrule_files: [%q]\n", rules), 1)
	require.NotEqual(t, text, own)
	text = own
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// Rules, alerts, targets and statistics of a pair of real Prometheus servers,
// through their sidecars and the querier, over HTTP and gRPC.
func TestServices(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	addRules(t, s, "prometheus-eu-a")
	addRules(t, s, "prometheus-eu-b")
	s.Endpoints = []string{"sidecar-eu-a", "sidecar-eu-b"}
	require.NoError(t, s.Start("s3", "prometheus-eu-a", "prometheus-eu-b", "sidecar-eu-a", "sidecar-eu-b", "query"))
	api := harness.API{Base: s.URL("query")}
	own := harness.API{Base: s.URL("prometheus-eu-a")}

	eventually(t, time.Minute, func() error {
		var alerts struct{ Alerts []struct{ State string } }
		if err := api.JSON("/api/v1/alerts", nil, &alerts); err != nil {
			return err
		}
		if len(alerts.Alerts) != 1 || alerts.Alerts[0].State != "firing" {
			return fmt.Errorf("alerts: %+v", alerts)
		}
		// Both servers have scraped and evaluated.
		var found struct{ ActiveTargets []struct{ Health string } }
		if err := api.JSON("/api/v1/targets", url.Values{"dedup": {"false"}}, &found); err != nil {
			return err
		}
		up := 0
		for _, target := range found.ActiveTargets {
			if target.Health == "up" {
				up++
			}
		}
		sum, err := api.Instant("up:sum", time.Time{})
		if err == nil && (up < 2 || len(sum.Series) != 1) {
			err = fmt.Errorf("targets: %+v, sum: %+v", found, sum)
		}
		return err
	})
	t.Run("rules", func(t *testing.T) { seeRules(t, api, own) })
	t.Run("targets", func(t *testing.T) { seeTargets(t, api, own) })
	t.Run("status", func(t *testing.T) {
		for _, a := range []harness.API{api, own} {
			// Prometheus counts the series of a metric once in 30 seconds, and the
			// sidecar has asked before the first scrape.
			eventually(t, time.Minute, func() error {
				var got struct {
					HeadStats struct {
						NumSeries, ChunkCount uint64
					}
					SeriesCountByMetricName []struct{ Name string }
				}
				if err := a.JSON("/api/v1/status/tsdb", url.Values{"limit": {"3"}}, &got); err != nil {
					return err
				}
				if got.HeadStats.NumSeries == 0 || got.HeadStats.ChunkCount == 0 || len(got.SeriesCountByMetricName) != 3 {
					return fmt.Errorf("status of %s: %+v", a.Base, got)
				}
				return nil
			})
		}
	})
	t.Run("gRPC", func(t *testing.T) { seeServices(t, s) })
}

// seeRules compares the rules with those of Prometheus.
func seeRules(t *testing.T, api, own harness.API) {
	var groups [2]struct {
		Groups []struct {
			Name, File              string
			Interval, Limit         float64
			PartialResponseStrategy string
			LastEvaluation          time.Time
			Rules                   []map[string]any
		}
	}
	for i, a := range []harness.API{api, own} {
		require.NoError(t, a.JSON("/api/v1/rules", nil, &groups[i]))
		require.Len(t, groups[i].Groups, 1)
	}
	got, want := groups[0].Groups[0], groups[1].Groups[0]
	require.Equal(t, []any{want.Name, want.File, want.Interval, want.Limit}, []any{got.Name, got.File, got.Interval, got.Limit})
	require.Equal(t, "ABORT", got.PartialResponseStrategy)
	require.False(t, got.LastEvaluation.IsZero())
	require.Len(t, got.Rules, 2, "the pair is one")
	for i, rule := range got.Rules {
		for key, value := range want.Rules[i] {
			switch key {
			case "lastEvaluation", "evaluationTime", "alerts":
				require.Contains(t, rule, key)
			case "labels":
				labels, _ := value.(map[string]any)
				labels["cluster"] = "eu"
				require.Equal(t, labels, rule[key])
			default:
				require.Equal(t, value, rule[key], key)
			}
		}
	}
	text, err := json.Marshal(got.Rules[0]["alerts"])
	require.NoError(t, err)
	for _, part := range []string{`"alertname":"AlwaysOn"`, `"cluster":"eu"`, `"value":"1e+00"`, `"summary":"value 1"`, `"state":"firing"`} {
		require.Contains(t, string(text), part)
	}
	require.NotContains(t, string(text), "replica")
}

// seeTargets compares the targets with those of Prometheus.
func seeTargets(t *testing.T, api, own harness.API) {
	urls := func(a harness.API) (out []string) {
		var got struct {
			ActiveTargets []struct {
				ScrapePool, ScrapeURL, Health string
				Labels                        map[string]string
			}
		}
		require.NoError(t, a.JSON("/api/v1/targets", url.Values{"state": {"active"}}, &got))
		for _, target := range got.ActiveTargets {
			delete(target.Labels, "cluster")
			out = append(out, fmt.Sprint(target.ScrapePool, target.ScrapeURL, target.Labels))
		}
		return out
	}
	got := urls(api)
	for _, u := range urls(own) {
		require.Contains(t, got, u)
	}
	seen := map[string]bool{}
	for _, u := range got {
		require.False(t, seen[u], "the target of both servers is one: %s", u)
		seen[u] = true
	}
}

// seeServices queries the processes over gRPC.
func seeServices(t *testing.T, s *harness.Site) {
	for name, query := range map[string]bool{"sidecar-eu-a": false, "query": true} {
		conn, err := grpc.NewClient(s.Addr(name+"/grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		c := storerpc.NewClient(conn, name)
		require.NoError(t, c.Refresh(t.Context()))
		require.Equal(t, storerpc.Services{
			Store: true, Rules: true, Metadata: true, Targets: true, Exemplars: true, Status: true, Query: query,
		}, c.Services())
		groups, _, err := c.Rules(t.Context(), &storeapi.RulesRequest{Type: storeapi.RuleAlert})
		require.NoError(t, err)
		require.Len(t, groups, 1)
		require.NotEmpty(t, groups[0].Rules[0].Labels.Get("replica"))
		targets, _, err := c.Targets(t.Context(), &storeapi.TargetsRequest{State: storeapi.TargetActive})
		require.NoError(t, err)
		require.NotEmpty(t, targets.Active)
		stats, _, err := c.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 2})
		require.NoError(t, err)
		require.Positive(t, stats[""].Series)
		if query {
			stream, err := storepb.NewQueryClient(conn).Query(t.Context(), &storepb.QueryRequest{Query: "count(up:sum)", EnableDedup: true})
			require.NoError(t, err)
			var values []float64
			for {
				m, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				for _, p := range m.GetTimeseries().GetSamples() {
					values = append(values, p.GetValue())
				}
			}
			require.Equal(t, []float64{1}, values)
		}
		require.NoError(t, conn.Close())
	}
}
