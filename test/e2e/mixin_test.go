package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// mixinSite is the site of the demo, scraped every second, with short intervals.
type mixinSite struct {
	*harness.Site
	t      *testing.T
	alerts harness.API // a Prometheus with the alerts, without their time to wait
	// more are the listeners of the processes that have causes which those of the demo cannot
	// have.
	more map[string]string
}

func newMixinSite(t *testing.T) mixinSite {
	s := mixinSite{Site: newSite(t), t: t, more: map[string]string{}}
	names := causeListeners()
	ports, err := harness.Ports(harness.Host(), len(names))
	require.NoError(t, err)
	for i, name := range names {
		s.more[name] = ports[i]
	}
	require.NoError(t, os.MkdirAll(s.Path("s3/slow"), 0o755))
	replace := func(name string, pairs ...string) {
		content, err := os.ReadFile(s.Path(name))
		require.NoError(t, err)
		s.write(name, strings.NewReplacer(pairs...).Replace(string(content)))
	}
	for _, p := range []string{"us-a", "eu-a", "eu-b", "edge"} {
		replace("prometheus-"+p+".yml", "scrape_interval: 5s", "scrape_interval: 1s")
	}
	// Both servers of the pair say that they are the same one.
	replace("prometheus-eu-b.yml", "replica: b", "replica: a")
	s.write("limits.yml", "write:\n  global:\n    max_tenants: 2\n  tenants:\n    small:\n      head_series_limit: 10\n")
	s.write("endpoints.yml", "endpoints: []\n")
	for _, name := range []string{"sidecar-eu-a", "sidecar-eu-b", "sidecar-us-a"} {
		s.Extra[name] = []string{
			"--prometheus.get_config_interval=1s", "--shipper.claim-interval=1s", "--shipper.head-interval=1s",
		}
	}
	s.Extra["store"] = []string{"--sync-block-duration=1s"}
	s.Extra["compact"] = []string{"--wait-interval=1s"}
	s.Extra["query"] = []string{
		"--endpoint=dns+missing.invalid:10901", "--store.sd-dns-interval=1s", "--query.max-samples=20000",
		"--endpoint.sd-config-file=" + s.Path("endpoints.yml"), "--endpoint.sd-config-reload-interval=1s",
	}
	for _, name := range []string{"receive-1", "receive-2", "receive-3"} {
		s.Extra[name] = []string{"--receive.limits-config-file=" + s.Path("limits.yml"), "--receive.hints.max-size=64KB"}
	}
	return s
}

// write replaces a file as a whole.
func (s mixinSite) write(name, content string) {
	s.t.Helper()
	path := s.Path(name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(s.t, os.WriteFile(path+".new", []byte(content), 0o644))
	require.NoError(s.t, os.Rename(path+".new", path))
}

// startPrometheus starts the Prometheus with the alerts. They wait for nothing.
func (s *mixinSite) startPrometheus() {
	t := s.t
	rules, err := os.ReadFile(filepath.Join(root(t), "mixin/alerts.yaml"))
	require.NoError(t, err)
	s.write("alerts.yaml", regexp.MustCompile(`(?m)^( *)for: .*$`).ReplaceAllString(string(rules), "${1}for: 0s"))
	jobs := map[string][]string{}
	for _, name := range harness.All() {
		if role, _, _ := strings.Cut(name, "-"); role != "node" && role != "s3" && role != "prometheus" {
			jobs[role] = append(jobs[role], s.Addr(name))
		}
	}
	for name, addr := range s.more {
		if !strings.Contains(name, "/") {
			jobs[name] = []string{addr}
		}
	}
	var scrapes strings.Builder
	for _, job := range slices.Sorted(maps.Keys(jobs)) {
		list, err := json.Marshal(jobs[job])
		require.NoError(t, err)
		fmt.Fprintf(&scrapes, "  - job_name: %s\n    static_configs: [{targets: %s}]\n", job, list)
	}
	s.write("alerting.yml", fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
%s`, s.Path("alerts.yaml"), &scrapes))
	addr, err := harness.Port(harness.Host())
	require.NoError(t, err)
	p, err := harness.Start(s.Dir, "alerting", bin.Prometheus, "--config.file="+s.Path("alerting.yml"),
		"--storage.tsdb.path="+s.Path("alerting"), "--web.listen-address="+addr, "--log.level=warn")
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.NoError(t, harness.WaitHTTP(p, "http://"+addr+"/-/ready", time.Minute))
	s.alerts = harness.API{Base: "http://" + addr}
}

func root(t *testing.T) string {
	t.Helper()
	r, err := harness.Root()
	require.NoError(t, err)
	return r
}

// Every panel of every dashboard has data on the processes of the demo, and alerts fire
// when their cause happens to a real process.
func TestMixin(t *testing.T) {
	t.Parallel()
	s := newMixinSite(t)
	s.requireCauses()
	require.NoError(t, s.Start(harness.All()...))
	first := s.readCounters()
	s.requireInitialForRules(first)
	s.startPrometheus()
	healthy, eventful := s.panelQueries()
	s.requireData(harness.API{Base: s.URL("query")}, healthy)
	seen := metricPages{}
	s.seeMetrics(seen)
	s.requireQuiet()
	s.damage()
	s.requireData(s.alerts, eventful)
	s.seeMetrics(seen)
	s.requireInitial(first, s.readCounters())
	s.requireDocumented(seen)
	// Without peers and bucket the processes would not stop in order.
	s.Kill()
}

// afterEvents are the panels whose metrics have no series until an event happens that does not
// happen on healthy processes.
func afterEvents() map[string]string {
	return map[string]string{
		"Hindsight / Compactor / Blocks that no job takes": "a damaged block",
		"Hindsight / Compactor / Duration of jobs":         "a job; the demo has no blocks for hours",
		"Hindsight / Compactor / Partial blocks":           "a block without meta.json",
		"Hindsight / Ring / Hints held":                    "a peer that does not answer",
		"Hindsight / Ring / Members":                       "receivers that discover each other",
		"Hindsight / Sidecars / Unshipped since":           "a block that cannot be shipped",
		"Hindsight / Tenants / Items rejected":             "a tenant at its limit",
		"Hindsight / Tenants / Labels renamed":             "a label of a sender that is an external one",
		"Hindsight / Tenants / Share of the limit":         "a tenant with a limit",
		"Hindsight / Writes / Items rejected":              "a tenant at its limit",
	}
}

// panelQueries returns the queries of all panels by dashboard, panel and query: those that
// have data on healthy processes, and those of afterEvents. They are without "or vector(0)",
// by which a panel shows 0 where its event has not happened.
func (s mixinSite) panelQueries() (healthy, eventful map[string]string) {
	files, err := filepath.Glob(filepath.Join(root(s.t), "mixin/dashboards/*.json"))
	require.NoError(s.t, err)
	require.Len(s.t, files, 9)
	healthy, eventful = map[string]string{}, map[string]string{}
	later, used := afterEvents(), map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(s.t, err)
		var d struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ RefID, Expr string }
			}
		}
		require.NoError(s.t, json.Unmarshal(content, &d))
		for _, p := range d.Panels {
			place, into := d.Title+" / "+p.Title, healthy
			if _, ok := later[place]; ok {
				into, used[place] = eventful, true
			}
			for _, q := range p.Targets {
				expr := strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$tenant", ".+").Replace(q.Expr)
				into[place+" / "+q.RefID] = strings.TrimSuffix(expr, " or vector(0)")
			}
		}
	}
	require.Len(s.t, used, len(later), "afterEvents has a panel that does not exist")
	require.Greater(s.t, len(healthy), 100)
	return healthy, eventful
}

// requireData asks queries again and again until each had data.
func (s mixinSite) requireData(api harness.API, queries map[string]string) {
	open := maps.Clone(queries)
	eventually(s.t, 90*time.Second, func() error {
		for _, place := range slices.Sorted(maps.Keys(open)) {
			a, err := api.Instant(open[place], time.Time{})
			if err != nil {
				return fmt.Errorf("%s: %w", place, err)
			}
			if len(a.Series) > 0 {
				delete(open, place)
			}
		}
		if len(open) > 0 {
			return fmt.Errorf("these queries find nothing: %v", open)
		}
		return nil
	})
}

// requireQuiet waits until no alert fires but those whose cause the site has from its
// start: an alert that fires on healthy processes is useless.
func (s mixinSite) requireQuiet() {
	causes := []string{
		"HindsightSidecarLabelConflict", "HindsightStoreMissing", "HindsightStoreAnswersFail",
	}
	eventually(s.t, 30*time.Second, func() error {
		a, err := s.alerts.Instant(`ALERTS{alertstate="firing", alertname!~"`+strings.Join(causes, "|")+`"}`, time.Time{})
		if err == nil && len(a.Series) > 0 {
			err = fmt.Errorf("these alerts fire: %v", a.Series)
		}
		return err
	})
}

// badBlock writes a block whose files are damaged, with times in ms.
func (s mixinSite) badBlock(dir, id string, minT, maxT int64) {
	s.write(filepath.Join(dir, id, "meta.json"), fmt.Sprintf(`{"ulid": %q, "minTime": %d, "maxTime": %d, "version": 1,
		"stats": {"numSamples": 10, "numSeries": 1, "numChunks": 1}, "compaction": {"level": 1, "sources": [%q]},
		"thanos": {"labels": {"cluster": "bad"}, "downsample": {"resolution": 0}, "source": "sidecar",
		"files": [{"rel_path": "chunks/000001", "size_bytes": 7}, {"rel_path": "index", "size_bytes": 7}, {"rel_path": "meta.json"}]}}`, id, minT, maxT, id))
	s.write(filepath.Join(dir, id, "index"), "damaged")
	s.write(filepath.Join(dir, id, "chunks/000001"), "damaged")
}

// damage makes the causes of the alerts happen, and waits until all alerts have fired.
func (s mixinSite) damage() {
	t := s.t
	c := s.startCauses()
	c.awaitPast()
	c.damageBuckets()
	s.write("endpoints.yml", "endpoints: [{address: "+s.more["store-bad/grpc"]+"}]\n")
	s.Proc("receive-3").Kill()
	s.Proc("prometheus-eu-a").Kill()
	s.await("HindsightReceiveHintsPending", "HindsightReceiveTenantNearLimit", "HindsightStoreBlocksQuarantined",
		"HindsightCompactBlocksQuarantined", "HindsightCompactBlocksSkipped", "HindsightStoreReadFailures",
		"HindsightStoreRequestsRefused", "HindsightReceiveTenantsRefused", "HindsightHeadRecoveryFailed", "HindsightBucketSlow", "HindsightCompactBacklogGrows")
	c.endBuckets()
	s.Proc("receive-2").Kill()
	s.Proc("s3").Kill()
	for _, name := range []string{"hashring.json", "limits.yml", "endpoints.yml"} {
		s.write(name, "{damaged")
	}
	resp, err := http.Post(s.URL("receive-1")+"/-/reload", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	s.await(c.expected()...)
}

// load makes the requests that alerts are about. Their errors are expected.
func (s mixinSite) load() {
	w := harness.Writer{URL: "http://" + s.Addr("receive-1/write") + "/api/v1/receive", Header: http.Header{"Thanos-Tenant": {"small"}}}
	for i := range 12 {
		_, _ = w.Write([]prompb.TimeSeries{harness.TimeSeries([]prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}, "__name__", fmt.Sprintf("small_%d", i))})
	}
	w.Header = http.Header{"Thanos-Tenant": {"third"}}
	one := []prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}
	_, _ = w.Write([]prompb.TimeSeries{harness.TimeSeries(one, "__name__", "one")})
	w.Header = nil
	_, _ = w.Write([]prompb.TimeSeries{harness.TimeSeries(one, "__name__", "renamed", "receive_replica", "own")})
	api := harness.API{Base: s.URL("query")}
	_ = api.JSON("/api/v1/labels", nil, new([]string))
	_, _ = api.Instant(`{cluster="fine"}`, time.UnixMilli(1583024400_000))
	_, _ = harness.API{Base: "http://" + s.more["query-bad"], Client: &http.Client{Timeout: time.Second}}.Instant("forgetful", time.UnixMilli(hostileTime))
	_, _ = api.Instant(`count_over_time({__name__=~"go_.+|hindsight_.+|http_.+"}[5m])`, time.Time{})
	_, _ = api.Instant(`{cluster="bad"}`, time.Date(2020, 3, 1, 1, 0, 0, 0, time.UTC))
}

// firing returns the alerts that have fired so far.
func (s mixinSite) firing() map[string]bool {
	a, err := s.alerts.Instant(`count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[10m]))`, time.Time{})
	require.NoError(s.t, err)
	out := map[string]bool{}
	for _, series := range a.Series {
		out[series.Labels["alertname"]] = true
	}
	return out
}

// await waits until alerts have fired.
func (s mixinSite) await(names ...string) {
	s.t.Helper()
	eventually(s.t, 2*time.Minute, func() error {
		s.load()
		fired := s.firing()
		for _, name := range names {
			if !fired[name] {
				return fmt.Errorf("%s has not fired; fired: %v", name, slices.Sorted(maps.Keys(fired)))
			}
		}
		return nil
	})
}

// requireCauses checks that alertCauses has each alert once.
func (s mixinSite) requireCauses() {
	content, err := os.ReadFile(filepath.Join(root(s.t), "mixin/alerts.yaml"))
	require.NoError(s.t, err)
	var file struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	require.NoError(s.t, yaml.Unmarshal(content, &file))
	var names, listed []string
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
		}
	}
	for _, c := range alertCauses() {
		require.NotEmpty(s.t, c.cause, c.alert)
		listed = append(listed, c.alert)
	}
	require.ElementsMatch(s.t, names, listed)
}
