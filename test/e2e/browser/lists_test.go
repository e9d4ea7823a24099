package browser

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// manyTargets is how many targets the querier has.
const manyTargets = 5000

// lists is a server with targets, rules, alerts and statistics whose names have markup.
type lists struct{}

func (lists) Targets(context.Context, *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	var out storeapi.Targets
	now := time.Now()
	for i := range manyTargets {
		url := fmt.Sprintf("http://node-%04d:9100/metrics", i)
		t := storeapi.ActiveTarget{
			Discovered: labels.FromStrings("__address__", url, "__meta_note", markup), Labels: labels.FromStrings("instance", url, "job", "node", markup, markup),
			ScrapePool: markup, ScrapeURL: url, GlobalURL: url, LastScrape: now.Add(-time.Second), LastScrapeDuration: 0.01, Health: storeapi.TargetUp,
		}
		if i == manyTargets-1 {
			t.Health, t.LastError, t.ScrapeURL = storeapi.TargetDown, "refused "+markup, "javascript:alert(4)"
		}
		out.Active = append(out.Active, t)
	}
	return out, nil, nil
}

func (lists) Rules(context.Context, *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	alerts := []storeapi.Alert{{
		Labels: labels.FromStrings("alertname", markup, markup, markup), Annotations: labels.FromStrings("runbook", `<a href="javascript:alert(5)">read</a>`),
		State: storeapi.AlertFiring, ActiveAt: time.Unix(1_700_000_000, 0), Value: "1e+00",
	}}
	group := storeapi.RuleGroup{Name: "group " + markup, File: markup, Interval: 15, Rules: []storeapi.Rule{
		{Alerting: true, Name: markup, Query: `up{job="` + markup + `"} == 0`, State: storeapi.AlertFiring, Health: "ok", Labels: labels.FromStrings(markup, markup), Annotations: labels.FromStrings("summary", markup), Alerts: alerts},
		{Name: "broken", Query: "sum(up)", Health: "err", LastError: "many-to-many " + markup},
	}}
	for i := range 500 {
		group.Rules = append(group.Rules, storeapi.Rule{Name: fmt.Sprintf("job:up:sum%d", i), Query: "sum by (job) (up)", Health: "ok"})
	}
	return []storeapi.RuleGroup{group}, nil, nil
}

func (lists) TSDBStatus(context.Context, *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	s := storeapi.TSDBStats{Series: 100_000, LabelPairs: 7, Chunks: 20, MinTime: 1, MaxTime: 2}
	for i := range 1000 {
		s.SeriesByMetric = append(s.SeriesByMetric, storeapi.NamedCount{Name: fmt.Sprintf("%s_%03d", markup, i), Value: uint64(50_000 - i)})
	}
	s.ValuesByLabel = []storeapi.NamedCount{{Name: markup, Value: 9}}
	s.MemoryByLabel = []storeapi.NamedCount{{Name: markup, Value: 4096}}
	s.SeriesByPair = []storeapi.NamedCount{{Name: "path=" + markup, Value: 99_999}}
	return map[string]storeapi.TSDBStats{"": s}, nil, nil
}

// serveLists serves the lists, and returns the address.
func serveLists(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	info := func() storeapi.Info {
		return storeapi.Info{Component: "sidecar", LabelSets: []labels.Labels{labels.FromStrings("cluster", "lists")}, MaxTime: math.MaxInt64}
	}
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: info, Services: storerpc.Services{Rules: true, Targets: true, Status: true}})
	storerpc.RegisterRules(srv, lists{})
	storerpc.RegisterTargets(srv, lists{})
	storerpc.RegisterStatus(srv, lists{})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		require.NoError(t, <-done)
	})
	return lis.Addr().String()
}

// rows waits until the list has a row, and opens the first one.
func (u *ui) rows(path string) {
	u.t.Helper()
	u.open(path)
	u.until(`document.querySelector('.vitem .expand')`)
	evaluate[any](u.browser, `document.querySelector('.vitem .expand').click()`)
	u.until(`document.querySelector('.vdetail')`)
}

// filter writes into the filter, and waits until the list has one row.
func (u *ui) filter(words string) {
	u.t.Helper()
	evaluate[any](u.browser, `document.querySelector('input[type=search]').focus()`)
	u.keys(words)
	u.until(`document.querySelectorAll('.vitem').length === 1`)
}

// testRunning ends a query of a tenant with markup on the page of running queries, and
// finds it among the top queries.
func testRunning(u *ui) {
	ended := make(chan int, 1)
	go func() {
		r, err := http.NewRequest(http.MethodGet, "http://"+u.site.query+prefix+"/api/v1/query?query=stuck", nil)
		if err == nil {
			r.Header.Set("THANOS-TENANT", markup)
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(r); err == nil {
				ended <- resp.StatusCode
				err = resp.Body.Close()
			}
		}
		if err != nil {
			ended <- 0
		}
	}()
	require.Eventually(u.t, func() bool { return u.site.silent.blocked.Load() == manyStores }, 10*time.Second, 10*time.Millisecond)
	u.rows("/queries")
	for _, want := range []string{"stuck", markup, "reading", "1 request runs", "Go-http-client"} {
		require.Contains(u.t, u.text(), want)
	}
	u.picture("running")
	u.click("End this query")
	u.until(`document.body.innerText.includes('No query runs.')`)
	require.Equal(u.t, http.StatusUnprocessableEntity, <-ended)
	u.open("/top-queries")
	u.until(`document.querySelector('.vitem')`)
	u.filter("stuck onerror")
	evaluate[any](u.browser, `document.querySelector('.vitem .expand').click()`)
	u.until(`document.querySelector('.vdetail')?.innerText.includes('1 request cancelled')`)
	require.Contains(u.t, u.text(), markup)
	u.picture("top")
}

// testLists looks at targets, rules, alerts, cardinality and the status, with markup in
// all names.
func testLists(u *ui) {
	u.rows("/targets")
	for _, want := range []string{"5\u202f000 targets", "1 down", "javascript:alert(4)", "refused " + markup} {
		require.Contains(u.t, u.text(), want)
	}
	require.Equal(u.t, []int{}, evaluate[[]int](u.browser, scrollOf(".vbody"), chromedp.EvalAwaitPromise), "steps whose rows were late")
	require.Less(u.t, evaluate[int](u.browser, "document.querySelectorAll('.vitem').length"), 80)
	u.picture("targets")
	u.filter("node-4321 onerror")

	u.rows("/rules")
	for _, want := range []string{"502 rules", "1 failed", "1 firing", "many-to-many " + markup, "group " + markup} {
		require.Contains(u.t, u.text(), want)
	}
	evaluate[any](u.browser, `document.querySelectorAll('.vitem .expand')[1].click()`)
	u.until(`document.querySelectorAll('.vdetail')[1]?.innerText.includes('firing since 2023-11-14 22:13:20')`)
	u.picture("rules")
	u.filter("sum499")
	u.click("▸job:up:sum499")
	u.click("Open in Query")
	u.until(`location.pathname.endsWith('/graph') && document.querySelector('.cm-content')?.innerText.includes('sum by (job) (up)')`)

	u.rows("/alerts")
	for _, want := range []string{"1 firing", markup, `<a href="javascript:alert(5)">read</a>`, "2023-11-14 22:13:20"} {
		require.Contains(u.t, u.text(), want)
	}
	u.picture("alerts")

	u.rows("/cardinality")
	require.Contains(u.t, u.text(), markup+"_000")
	require.Contains(u.t, u.text(), `count({"`+markup+`_000"})`)
	u.picture("cardinality")
	evaluate[any](u.browser, `(() => { const s = document.querySelector('select[aria-label=List]'); s.value = 'seriesCountByLabelValuePair'; s.dispatchEvent(new Event('change')) })()`)
	u.until(`document.querySelector('.vitem')?.innerText.includes('path=')`)

	u.open("/status")
	u.until(`document.querySelectorAll('meter').length === 1 && document.querySelector('.vitem') && document.querySelectorAll('.cards dl').length === 4`)
	for _, want := range []string{"Memory budget", "GOMAXPROCS", "go1.", "--alert.query-url"} {
		require.Contains(u.t, u.text(), want)
	}
	u.filter("route-prefix")
	require.Contains(u.t, u.text(), prefix)
	u.picture("status")
}

// testSlow opens a list whose answers take longer than the period of its calls, and one
// that the server does not answer.
func testSlow(u *ui) {
	u.open("/rules")
	u.until(`document.querySelector('.vitem')`)
	evaluate[any](u.browser, `(() => { const real = window.fetch; window.fetch = (...a) => new Promise(r => setTimeout(r, 2500)).then(() => real(...a)) })()`)
	u.click("Running")
	u.until(`document.body.innerText.includes('No query runs.')`)
	evaluate[any](u.browser, `(() => { window.fetch = () => Promise.reject(new TypeError('gone')) })()`)
	u.click("Stores")
	u.until(`document.querySelector('[role=alert]')?.innerText === 'cannot reach the server: gone'`)
	require.NotContains(u.t, u.text(), "Loading")
}
