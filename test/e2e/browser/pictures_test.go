package browser

import (
	"context"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// says waits until an answer has a text.
func says(t *testing.T, url, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), text)
	}, 3*time.Minute, time.Second, "%s", url)
}

// TestPictures makes the pictures of docs/web.md from the processes of the demo, with the
// target screenshots of the Makefile.
func TestPictures(t *testing.T) {
	needBrowser(t)
	if os.Getenv("HINDSIGHT_SCREENSHOTS") == "" {
		t.Skip("HINDSIGHT_SCREENSHOTS is not set")
	}
	site, err := harness.NewSite(t.TempDir(), host, bin)
	require.NoError(t, err)
	t.Cleanup(site.Kill)
	require.NoError(t, site.Start(harness.All()...))
	u := &ui{newBrowser(t), &uiSite{query: site.Addr("query"), end: time.Now()}}
	at := func(process string) {
		// The page before would ask its own server again.
		require.NoError(t, chromedp.Do(u.ctx, chromedp.Navigate("about:blank")))
		u.host, u.site.origin = site.Addr(process), site.URL(process)
	}
	const rows = `document.querySelector('.vitem')`
	at("query")
	u.emulate(1280, "light")
	// Graphs need some minutes of data, and explain needs a gateway with blocks.
	says(t, site.URL("query")+"/api/v1/query?query=min(count_over_time(node_load1[1h]))%20%3E%2024", `"value"`)
	for _, name := range []string{"receive-1", "receive-2", "receive-3"} {
		resp, err := http.Post(site.URL(name)+"/-/flush", "", nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	says(t, site.URL("store")+"/api/v1/blocks", `"ulid"`)
	says(t, site.URL("compact")+"/api/v1/blocks", `"ulid"`)
	says(t, site.URL("query")+"/api/v1/query_range_explain?query=node_load1&start="+fmt.Sprint(time.Now().Add(-time.Minute).Unix())+"&end="+fmt.Sprint(time.Now().Unix())+"&step=5&analyze=true", `"queried":`)
	shoot := func(ready, name string) {
		u.until(ready)
		u.until(filled)
		evaluate[any](u.browser, `document.activeElement.blur()`)
		u.picture("web-" + name)
	}
	shot := func(path, ready, name string) {
		u.open(path)
		shoot(ready, name)
	}
	const graph = `document.querySelector('.u-over') && document.querySelector('[data-status=done]')`
	const expr = "/graph?g0.expr=sum%20by%20(cluster,%20mode)%20(rate(node_cpu_seconds_total%7Bmode!~%22idle%7Cirq%7Cnice%7Csteal%22%7D%5B30s%5D))&g0.range_input=2m&g0.tab="
	shot(expr+"stacked", graph, "query")
	u.open(expr + "explain")
	u.click("Run and measure each node")
	shoot(`document.querySelectorAll('.measure').length >= 4 && document.body.innerText.includes('Samples read')`, "explain")
	shot("/stores", rows, "stores")
	shot("/targets", rows, "targets")
	shot("/rules", rows, "rules")
	shot("/alerts", `document.querySelectorAll('.vitem').length >= 5`, "alerts")
	shot("/cardinality", rows, "cardinality")
	ended := busy(t, site.URL("query"))
	u.open("/queries")
	evaluate[any](u.browser, `window.often = setInterval(() => [...document.querySelectorAll('button')].find(e => e.textContent === 'Refresh')?.click(), 300)`)
	shoot(`document.querySelectorAll('.vitem').length >= 3`, "queries")
	evaluate[any](u.browser, `clearInterval(window.often)`)
	ended()
	shot("/top-queries", rows, "top-queries")
	shot("/status", rows+" && document.querySelectorAll('.cards dl').length === 4", "status")
	at("receive-1")
	shot("/ring", rows, "ring")
	u.open("/tenants")
	u.until(`document.querySelector('.vitem .expand')`)
	evaluate[any](u.browser, `document.querySelector('.vitem .expand').click()`)
	shoot(`document.querySelector('.top-list li')`, "tenants")
	at("store")
	const blocks = `document.querySelectorAll('.vtable[aria-label=blocks] .vitem').length > 0`
	shot("/blocks", blocks, "blocks")
	u.click("Cardinality of the bucket: the newest raw block of each source")
	shoot(`document.querySelector('[aria-label="Largest metrics"]')`, "block-cardinality")
	at("compact")
	shot("/compaction", `document.querySelector('[aria-label=Backlog]')`, "compaction")
	at("query")
	u.emulate(1280, "dark")
	shot(expr+"graph", graph, "dark")
	u.emulate(360, "dark")
	shot(expr+"graph", graph, "phone")
	u.clean()
}

// filled is true when the rows of each list fill its view; rows are drawn in the frame after
// a change of its size.
const filled = `[...document.querySelectorAll('.vbody')].every(e => [...e.querySelectorAll('.vitem')].every((row, i, all) => i < all.length - 1 || row.getBoundingClientRect().bottom >= e.getBoundingClientRect().bottom - 3))`

// busy runs expensive queries again and again, so that some run at each moment, until the caller calls the result.
func busy(t *testing.T, url string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for tenant, expr := range map[string]string{
		"team-a": `sum by (job) (max_over_time(rate({__name__=~".+_total"}[1m])[2m:500ms]))`,
		"team-b": `topk(5, quantile_over_time(0.99, rate(prometheus_http_request_duration_seconds_bucket[1m])[5m:250ms]))`,
		"team-c": `count by (__name__) (max_over_time({__name__=~"go_.+"}[2m:250ms]))`,
	} {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/query_range?step=1&start="+fmt.Sprint(time.Now().Unix()-120)+"&end="+fmt.Sprint(time.Now().Unix())+"&query="+neturl.QueryEscape(expr), nil)
				if err != nil {
					return
				}
				r.Header.Set("THANOS-TENANT", tenant)
				if resp, err := http.DefaultClient.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
