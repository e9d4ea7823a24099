package query

import (
	"context"
	"encoding/json"
	"math"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// listBackend is a StoreAPI server on a real port with one group of rules, some
// targets and statistics of a TSDB; it offers what has says.
type listBackend struct {
	storeapi.Store
	addr string
	ext  labels.Labels
	has  storerpc.Services
	kill func()
	// state is that of its alerting rule.
	state storeapi.AlertState
}

func newListBackend(t testing.TB, has storerpc.Services, state storeapi.AlertState, ext ...string) *listBackend {
	b := &listBackend{ext: labels.FromStrings(ext...), has: has, state: state}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.addr = lis.Addr().String()
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: b.Info, Services: has})
	if has.Rules {
		storerpc.RegisterRules(srv, b)
	}
	if has.Targets {
		storerpc.RegisterTargets(srv, b)
	}
	if has.Status {
		storerpc.RegisterStatus(srv, b)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	b.kill = func() {
		srv.Stop()
		<-done
	}
	t.Cleanup(b.kill)
	return b
}

func (b *listBackend) Info() storeapi.Info {
	return storeapi.Info{Component: "sidecar", LabelSets: []labels.Labels{b.ext}, MaxTime: math.MaxInt64}
}

// at is when everything of a listBackend happened.
var at = time.Unix(1_700_000_000, 0).UTC()

func (b *listBackend) Rules(context.Context, *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	alert := storeapi.Rule{
		Alerting: true, Name: "Down", Query: "up == 0", State: b.state, For: 60, Health: "ok", LastEvaluation: at,
		Labels: labels.FromStrings("severity", "page"), Annotations: labels.FromStrings("summary", "it is down"),
	}
	if b.state > storeapi.AlertInactive {
		alert.Alerts = []storeapi.Alert{{
			Labels: labels.FromStrings("alertname", "Down", "instance", "x"), State: b.state, ActiveAt: at, Value: "1e+00", Partial: storeapi.PartialAbort,
		}}
	}
	groups := []storeapi.RuleGroup{
		{Name: "alerts", File: "rules.yml", Interval: 15, LastEvaluation: at, Partial: storeapi.PartialAbort, Rules: []storeapi.Rule{
			alert, {Name: "up:sum", Query: "sum(up)", Health: "ok", LastEvaluation: at},
		}},
		{Name: "more", File: "rules.yml", Rules: []storeapi.Rule{{Name: "up:max", Query: "max(up)", Health: "unknown"}}},
	}
	storeapi.ExternalRules(b.ext, groups)
	return groups, nil, nil
}

func (b *listBackend) Targets(context.Context, *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	t := storeapi.Targets{
		Active: []storeapi.ActiveTarget{{
			Discovered: labels.FromStrings("__address__", "n:1", "__scrape_interval__", "15s"), Labels: labels.FromStrings("job", "node"),
			ScrapePool: "node", ScrapeURL: "http://n:1/metrics", GlobalURL: "http://n:1/metrics", LastScrape: at, LastScrapeDuration: 0.5, Health: storeapi.TargetUp,
		}},
		Dropped: []labels.Labels{labels.FromStrings("__address__", "d:1")},
	}
	storeapi.ExternalTargets(b.ext, t)
	return t, nil, nil
}

func (b *listBackend) TSDBStatus(_ context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	if !r.ChoosesTSDB(b.ext) {
		return nil, nil, nil
	}
	return map[string]storeapi.TSDBStats{"": {
		Series: 10, LabelPairs: 5, Chunks: 20, MinTime: 1000, MaxTime: 2000,
		SeriesByMetric: []storeapi.NamedCount{{Name: "up", Value: 6}, {Name: "x", Value: 4}},
	}}, nil, nil
}

func everyList() storerpc.Services {
	return storerpc.Services{Store: true, Rules: true, Targets: true, Status: true}
}

// listPair is a pair of replicas, and a store that has none of the lists.
func listPair(t testing.TB) (a, b, mute *listBackend) {
	a = newListBackend(t, everyList(), storeapi.AlertInactive, "cluster", "eu", "replica", "a")
	b = newListBackend(t, everyList(), storeapi.AlertFiring, "cluster", "eu", "replica", "b")
	mute = newListBackend(t, storerpc.Services{Store: true}, 0, "cluster", "bucket")
	return a, b, mute
}

func TestRules_JSON(t *testing.T) {
	a, b, mute := listPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+mute.addr, "--query.replica-label=replica")
	ans := q.get("/api/v1/rules")
	require.Equal(t, 200, ans.code, ans.Error)
	require.Empty(t, ans.Warnings)
	down := `{"state":"firing","name":"Down","query":"up == 0","duration":60,"keepFiringFor":0,"labels":{"cluster":"eu","severity":"page"},
		"annotations":{"summary":"it is down"},"alerts":[{"labels":{"alertname":"Down","cluster":"eu","instance":"x","severity":"page"},"annotations":{},
		"state":"firing","activeAt":"2023-11-14T22:13:20Z","value":"1e+00","partialResponseStrategy":"ABORT"}],
		"health":"ok","evaluationTime":0,"lastEvaluation":"2023-11-14T22:13:20Z","type":"alerting"}`
	sum := `{"name":"up:sum","query":"sum(up)","labels":{"cluster":"eu"},"health":"ok","evaluationTime":0,
		"lastEvaluation":"2023-11-14T22:13:20Z","type":"recording"}`
	group := func(rules string) string {
		return `{"name":"alerts","file":"rules.yml","rules":[` + rules + `],"interval":15,"limit":0,"evaluationTime":0,
			"lastEvaluation":"2023-11-14T22:13:20Z","partialResponseStrategy":"ABORT"}`
	}
	more := `{"name":"more","file":"rules.yml","rules":[{"name":"up:max","query":"max(up)","labels":{"cluster":"eu"},"health":"unknown",
		"evaluationTime":0,"lastEvaluation":"0001-01-01T00:00:00Z","type":"recording"}],"interval":0,"limit":0,"evaluationTime":0,
		"lastEvaluation":"0001-01-01T00:00:00Z","partialResponseStrategy":"WARN"}`
	require.JSONEq(t, `{"groups":[`+group(down+","+sum)+`,`+more+`]}`, string(ans.Data))

	for params, want := range map[string]string{
		"type=alert":                            group(down),
		"type=record&rule_name[]=up:sum":        group(sum),
		"rule_group[]=more":                     more,
		"file[]=other.yml":                      "",
		`match[]={severity="page"}`:             group(down),
		`match[]={severity="page",cluster="x"}`: "",
	} {
		values, err := url.ParseQuery(params)
		require.NoError(t, err)
		var kv []string
		for name, v := range values {
			kv = append(kv, name, v[0])
		}
		require.JSONEq(t, `{"groups":[`+want+`]}`, string(q.get("/api/v1/rules", kv...).Data), params)
	}
	require.Contains(t, string(q.get("/api/v1/rules", "exclude_alerts", "true").Data), `"alerts":[]`)
	require.JSONEq(t, `{"alerts":[{"labels":{"alertname":"Down","cluster":"eu","instance":"x","severity":"page"},"annotations":{},"state":"firing",
		"activeAt":"2023-11-14T22:13:20Z","value":"1e+00","partialResponseStrategy":"ABORT"}]}`, string(q.get("/api/v1/alerts").Data))
	require.Contains(t, string(q.get("/api/v1/alerts", "dedup", "false").Data), `"replica":"b"`)
	require.Contains(t, string(q.get("/api/v1/rules", "replicaLabels[]", "cluster").Data), `"replica":"a"`)
}

func TestRules_Pages(t *testing.T) {
	a, b, _ := listPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--query.replica-label=replica")
	page := func(kv ...string) (names []string, next string) {
		ans := q.get("/api/v1/rules", append(kv, "group_limit", "1")...)
		require.Equal(t, 200, ans.code, ans.Error)
		var data struct {
			Groups         []struct{ Name string }
			GroupNextToken string
		}
		require.NoError(t, json.Unmarshal(ans.Data, &data))
		for _, g := range data.Groups {
			names = append(names, g.Name)
		}
		return names, data.GroupNextToken
	}
	names, next := page()
	require.Equal(t, []string{"alerts"}, names)
	require.Len(t, next, 64)
	names, next = page("group_next_token", next)
	require.Equal(t, []string{"more"}, names)
	require.Empty(t, next)
}

func TestLists_WrongParameters(t *testing.T) {
	q := startQuerier(t)
	for _, p := range [][3]string{
		{"rules", "type", "alerting"}, {"rules", "match[]", "{"}, {"rules", "group_limit", "0"}, {"rules", "group_next_token", "x"},
		{"rules", "exclude_alerts", "perhaps"}, {"alerts", "match[]", "("}, {"targets", "state", "asleep"},
		{"status/tsdb", "limit", "0"}, {"status/tsdb", "limit", "10001"}, {"status/tsdb", "match[]", "="}, {"rules", "dedup", "x"},
	} {
		ans := q.get("/api/v1/"+p[0], p[1], p[2])
		require.Equal(t, 400, ans.code, "%v", p)
		require.Contains(t, ans.Error, p[1])
	}
	ans := q.get("/api/v1/rules", "group_limit", "1", "group_next_token", "unknown")
	require.Equal(t, 400, ans.code)
	// Nothing is there, but it is a list.
	require.JSONEq(t, `{"groups":[]}`, string(q.get("/api/v1/rules").Data))
	require.JSONEq(t, `{"alerts":[]}`, string(q.get("/api/v1/alerts").Data))
	require.JSONEq(t, `{"activeTargets":[],"droppedTargets":[]}`, string(q.get("/api/v1/targets").Data))
	require.JSONEq(t, `{"scrapePools":[]}`, string(q.get("/api/v1/scrape_pools").Data))
	require.Contains(t, string(q.get("/api/v1/status/tsdb").Data), `"seriesCountByMetricName":[]`)
}

func TestTargets_JSON(t *testing.T) {
	a, b, mute := listPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+mute.addr, "--query.replica-label=replica")
	active := `[{"discoveredLabels":{"__address__":"n:1","__scrape_interval__":"15s","cluster":"eu"},"labels":{"cluster":"eu","job":"node"},
		"scrapePool":"node","scrapeUrl":"http://n:1/metrics","globalUrl":"http://n:1/metrics","lastError":"","lastScrape":"2023-11-14T22:13:20Z",
		"lastScrapeDuration":0.5,"health":"up","scrapeInterval":"15s"}]`
	dropped := `[{"discoveredLabels":{"__address__":"d:1","cluster":"eu"}}]`
	require.JSONEq(t, `{"activeTargets":`+active+`,"droppedTargets":`+dropped+`}`, string(q.get("/api/v1/targets").Data))
	require.JSONEq(t, `{"activeTargets":`+active+`,"droppedTargets":[]}`, string(q.get("/api/v1/targets", "state", "active").Data))
	require.JSONEq(t, `{"activeTargets":[],"droppedTargets":`+dropped+`}`, string(q.get("/api/v1/targets", "state", "dropped").Data))
	require.JSONEq(t, `{"activeTargets":[],"droppedTargets":`+dropped+`}`, string(q.get("/api/v1/targets", "scrapePool", "x").Data))
	require.JSONEq(t, `{"scrapePools":["node"]}`, string(q.get("/api/v1/scrape_pools").Data))
	require.Contains(t, string(q.get("/api/v1/targets", "dedup", "false").Data), `"replica":"b"`)
}

func TestTSDBStatus_JSON(t *testing.T) {
	a, b, mute := listPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+mute.addr)
	require.JSONEq(t, `{"headStats":{"numSeries":20,"numLabelPairs":10,"chunkCount":40,"minTime":1000,"maxTime":2000},
		"seriesCountByMetricName":[{"name":"up","value":12}],"labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],
		"seriesCountByLabelValuePair":[]}`, string(q.get("/api/v1/status/tsdb", "limit", "1").Data))
	require.Contains(t, string(q.get("/api/v1/status/tsdb", "match[]", `{replica="a"}`).Data), `"numSeries":10`)
}

func listPaths() []string {
	return []string{"/api/v1/rules", "/api/v1/alerts", "/api/v1/targets", "/api/v1/status/tsdb"}
}

func TestLists_MissingStoreIsNamed(t *testing.T) {
	a, b, mute := listPair(t)
	args := []string{"--endpoint=" + a.addr, "--endpoint=" + b.addr, "--endpoint=" + mute.addr}
	q := startQuerier(t, append(args, "--rule.partial-response")...)
	// Rules and alerts are strict by default.
	strict := startQuerier(t, append(args, "--no-target.partial-response", "--no-status.partial-response")...)
	b.kill()
	mute.kill()
	for _, wait := range []bool{false, true} {
		if wait {
			q.waitFor("missing", b.addr)
			q.waitFor("missing", mute.addr)
		}
		for _, path := range listPaths() {
			ans := q.get(path)
			require.Equal(t, 200, ans.code, ans.Error)
			require.Len(t, ans.Warnings, 1, path)
			require.Equal(t, b.addr, ans.header.Get("X-Hindsight-Missing"), "a store without the API is not missed")
			require.Equal(t, "false", ans.header.Get("X-Hindsight-Complete"))
			require.Equal(t, "no-store", ans.header.Get("Cache-Control"))
			require.Equal(t, 422, q.get(path, "partial_response", "false").code)
			ans = strict.get(path)
			require.Equal(t, 422, ans.code, path)
			require.Contains(t, ans.Error, b.addr)
			require.Equal(t, 200, strict.get(path, "partial_response", "true").code)
		}
	}
}

func TestMetadata_PartialResponseFlag(t *testing.T) {
	a, b, _ := haPair(t)
	mute := newListBackend(t, storerpc.Services{Store: true}, 0, "cluster", "bucket")
	args := []string{"--endpoint=" + a.addr, "--endpoint=" + b.addr, "--endpoint=" + mute.addr}
	q, strict := startQuerier(t, args...), startQuerier(t, append(args, "--no-metric-metadata.partial-response")...)
	mute.kill()
	q.waitFor("missing", mute.addr)
	strict.waitFor("missing", mute.addr)
	require.Empty(t, q.get("/api/v1/metadata").Warnings, "a store without metadata is not missed")
	require.Equal(t, 200, strict.get("/api/v1/metadata").code)
	b.kill()
	ans := q.get("/api/v1/metadata")
	require.Equal(t, 200, ans.code)
	require.Len(t, ans.Warnings, 1)
	ans = strict.get("/api/v1/metadata")
	require.Equal(t, 422, ans.code)
	require.Contains(t, ans.Error, b.addr)
}

func TestLists_OfOneTenant(t *testing.T) {
	red := newListBackend(t, everyList(), storeapi.AlertFiring, "tenant_id", "red")
	blue := newListBackend(t, everyList(), storeapi.AlertFiring, "tenant_id", "blue")
	q := startQuerier(t, "--endpoint="+red.addr, "--endpoint="+blue.addr, "--query.enforce-tenancy", "--query.default-tenant-id=red")
	for _, path := range append(listPaths(), "/api/v1/targets") {
		for _, match := range []string{"", `{tenant_id="blue"}`} {
			var kv []string
			if match != "" {
				kv = []string{"match[]", match}
			}
			ans := q.get(path, kv...)
			require.Equal(t, 200, ans.code, ans.Error)
			require.NotContains(t, string(ans.Data), "blue", path)
			if path == "/api/v1/status/tsdb" {
				require.Contains(t, string(ans.Data), `"numSeries":10`)
			} else {
				require.Contains(t, string(ans.Data), "red", path)
			}
		}
	}
}

// A querier over queriers tells replicas apart, and announces what it serves.
func TestLists_OverGRPC(t *testing.T) {
	a, b, mute := listPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+mute.addr, "--query.replica-label=replica")
	storetest.AnnouncesWhatItServes(t, q.q.RegisterGRPC)
	conn := storetest.Dial(t, func(srv *grpc.Server) { q.q.RegisterGRPC(srv) })
	c := storerpc.NewClient(conn, "querier")
	groups, ws, err := c.Rules(t.Context(), &storeapi.RulesRequest{Type: storeapi.RuleAlert})
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Len(t, groups, 1)
	require.Len(t, groups[0].Rules, 2, "both replicas")
	targets, _, err := c.Targets(t.Context(), &storeapi.TargetsRequest{})
	require.NoError(t, err)
	require.Len(t, targets.Active, 2)
	stats, _, err := c.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, uint64(20), stats[""].Series)

	b.kill()
	q.waitFor("missing", b.addr)
	_, ws, err = c.Rules(t.Context(), &storeapi.RulesRequest{})
	require.NoError(t, err)
	require.Len(t, ws, 1)
	require.Contains(t, ws[0].Text, b.addr)
	_, _, err = c.Targets(t.Context(), &storeapi.TargetsRequest{Partial: storeapi.PartialAbort})
	require.ErrorIs(t, err, storeapi.ErrPartial)
}
