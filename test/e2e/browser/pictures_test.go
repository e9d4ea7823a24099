package browser

import (
	"io"
	"net/http"
	"os"
	"strings"
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
	u.emulate(1180, "light")
	// Rates need some scrapes of all servers.
	says(t, site.URL("query")+"/api/v1/query?query=min(count_over_time(node_load1[1h]))%20%3E%204", `"value"`)
	shot := func(path, ready, name string) {
		u.open(path)
		u.until(ready)
		u.picture("web-" + name)
	}
	const expr = "sum%20by%20(cluster,%20mode)%20(rate(node_cpu_seconds_total%7Bmode!%3D%22idle%22%7D%5B1m%5D))"
	shot("/graph?g0.expr="+expr+"&g0.tab=stacked&g0.range_input=5m", `document.querySelector('.u-over') && document.querySelector('[data-status=done]')`, "query")
	u.open("/graph?g0.expr=" + expr + "&g0.tab=explain&g0.range_input=5m")
	u.click("Run and measure each node")
	shotWhen := func(ready, name string) { u.until(ready); u.picture("web-" + name) }
	shotWhen(`document.querySelectorAll('.measure').length >= 4 && document.body.innerText.includes('Samples read')`, "explain")
	for _, p := range [][2]string{
		{"/stores", rows}, {"/targets", rows}, {"/rules", `document.querySelector('.vtable')`}, {"/alerts", `document.querySelector('.vtable')`}, {"/cardinality", rows},
		{"/top-queries", rows}, {"/queries", `document.querySelector('.vtable')`},
		{"/status", rows + " && document.querySelectorAll('.cards dl').length === 4"},
	} {
		shot(p[0], p[1], p[0][1:])
	}
	at("receive-1")
	shot("/ring", rows, "ring")
	u.open("/tenants")
	u.until(`document.querySelector('.vitem .expand')`)
	evaluate[any](u.browser, `document.querySelector('.vitem .expand').click()`)
	shotWhen(`document.querySelector('.top-list li')`, "tenants")
	for _, name := range []string{"receive-1", "receive-2", "receive-3"} {
		resp, err := http.Post(site.URL(name)+"/-/flush", "", nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	at("store")
	says(t, site.URL("store")+"/api/v1/blocks", `"ulid"`)
	says(t, site.URL("compact")+"/api/v1/blocks", `"ulid"`)
	shot("/blocks", `document.querySelectorAll('.vtable[aria-label=blocks] .vitem').length > 0`, "blocks")
	at("compact")
	shot("/compaction", `document.querySelector('[aria-label=Backlog]')`, "compaction")
	at("query")
	require.NoError(t, chromedp.Do(u.ctx, chromedp.EmulateViewport(360, 740)))
	u.emulate(360, "dark")
	shot("/graph?g0.expr="+expr+"&g0.tab=graph&g0.range_input=5m", `document.querySelector('.u-over') && document.querySelector('[data-status=done]')`, "phone")
	u.clean()
}
