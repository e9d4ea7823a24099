package browser

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// ui drives the web interface in a browser.
type ui struct {
	*browser
	site *uiSite
}

// TestInterface drives the pages of a querier below a prefix.
func TestInterface(t *testing.T) {
	needBrowser(t)
	site := startUISite(t)
	b := newBrowser(t)
	b.host = site.query
	for name, test := range map[string]func(*ui){
		"Query": testQuery, "Keyboard": testKeyboard, "Missing": testMissing, "Kill": testKill,
		"Forms": testForms, "Large": testLarge, "Stores": testStores, "Look": testLook, "Walk": testWalk, "Errors": testErrors, "Frames": testFrames,
		"Running": testRunning, "Lists": testLists, "Slow": testSlow, "Options": testOptions, "Lint": testLint, "Sizing": testSizing,
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			u := &ui{b, site}
			require.NoError(t, chromedp.Do(u.ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate("about:blank")))
			test(u)
			u.clean()
		})
	}
}

// open opens a path below the prefix.
func (u *ui) open(path string) {
	u.t.Helper()
	require.NoError(u.t, chromedp.Do(u.ctx, chromedp.Navigate(cmp.Or(u.site.origin, "http://"+u.site.query+prefix)+path)))
}

// graph opens the page of queries with panels; params are those of the first one.
func (u *ui) graph(expr, tab string, params ...string) {
	u.t.Helper()
	v := url.Values{"g0.expr": {expr}, "g0.tab": {tab}, "g0.end_input": {u.site.at()}, "g0.range_input": {"50m"}}
	for i := 0; i < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	u.open("/graph?" + v.Encode())
}

// until waits until an expression is true.
func (u *ui) until(expression string) {
	u.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for !u.holds(expression) {
		if time.Now().After(deadline) {
			u.picture("timeout-" + u.t.Name())
			u.mu.Lock()
			faults := strings.Join(u.faults, "\n")
			u.mu.Unlock()
			require.FailNow(u.t, "waited in vain", "for %s; the page says\n%s\n%s", expression, u.text(), faults)
		}
		time.Sleep(15 * time.Millisecond)
	}
}

// holds reports whether an expression is true; none is while the browser goes to another
// page.
func (u *ui) holds(expression string) bool {
	u.t.Helper()
	v, err := chromedp.Run(u.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
	if err != nil && (strings.Contains(err.Error(), "target navigated") || strings.Contains(err.Error(), "context was destroyed")) {
		return false
	}
	require.NoError(u.t, err, expression)
	return v
}

func (u *ui) done() {
	u.t.Helper()
	u.until(`document.querySelector('.status')?.dataset.status === 'done'`)
}

func (u *ui) text() string {
	u.t.Helper()
	return evaluate[string](u.browser, "document.body.innerText")
}

func (u *ui) keys(keys string) {
	u.t.Helper()
	require.NoError(u.t, chromedp.Do(u.ctx, chromedp.KeyEvent(keys)))
}

// click clicks the first button or tab with the text.
func (u *ui) click(text string) {
	u.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll('button, a, summary')].find(e => e.textContent.trim() === %q || e.ariaLabel === %q)`, text, text)
	u.until(find)
	evaluate[any](u.browser, find+".click()")
}

// clean requires that the page had no fault but those that the test allows, and that names
// with markup made no elements.
func (u *ui) clean(allowed ...string) {
	u.t.Helper()
	require.Empty(u.t, evaluate[[]string](u.browser, injected), "elements that no page has")
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range u.faults {
		ok := false
		for _, a := range allowed {
			ok = ok || strings.Contains(f, a)
		}
		require.True(u.t, ok, "%s", f)
	}
	u.faults = nil
}

// testQuery writes a query with completion, runs it, zooms, shares the link, opens it
// again, and switches to the table.
func testQuery(u *ui) {
	u.open("/")
	u.until(`document.querySelector('.cm-content')`)
	evaluate[any](u.browser, `document.querySelector('.cm-content').focus()`)
	u.keys("rate(demo_req")
	u.until(`document.querySelector('.cm-tooltip-autocomplete li[aria-selected]')?.textContent.includes('demo_requests_total')`)
	u.until(`document.querySelector('.cm-completionInfo')?.textContent.includes('Requests <b>answered</b>.')`)
	require.Contains(u.t, evaluate[string](u.browser, `document.querySelector('.cm-tooltip-autocomplete li[aria-selected]').textContent`), "counter")
	u.picture("completion")
	u.accept()
	u.keys("{pa")
	u.until(`document.querySelector('.cm-tooltip-autocomplete li[aria-selected]')?.textContent.startsWith('path')`)
	u.accept()
	u.keys(`="/a`)
	u.until(`document.querySelector('.cm-tooltip-autocomplete li[aria-selected]')?.textContent.includes('/api')`)
	u.accept()
	u.keys(`"}[5m])` + kb.Enter) // the editor has closed quotes and brackets already
	u.done()
	require.Contains(u.t, u.text(), `path="/api"`)
	u.click("Graph")
	u.done()
	u.until(`document.querySelector('.u-over')`)
	before := evaluate[string](u.browser, "location.search")
	u.drag()
	u.until(fmt.Sprintf("location.search !== %q", before))
	u.done()
	zoomed, err := url.ParseQuery(strings.TrimPrefix(evaluate[string](u.browser, "location.search"), "?"))
	require.NoError(u.t, err)
	span, err := time.ParseDuration(zoomed.Get("g0.range_input"))
	require.NoError(u.t, err)
	require.InDelta(u.t, 30, span.Minutes(), 3, "half of an hour was selected")
	require.NotEmpty(u.t, zoomed.Get("g0.end_input"))
	u.click("Share")
	u.until(`document.querySelector('.share')?.value`)
	link := evaluate[string](u.browser, "document.querySelector('.share').value")
	require.Contains(u.t, link, "http://"+u.site.query+prefix+"/graph?")
	u.clean()
	require.NoError(u.t, chromedp.Do(u.ctx, chromedp.Navigate(link)))
	u.done()
	require.Equal(u.t, `rate(demo_requests_total{path="/api"}[5m])`, evaluate[string](u.browser, "document.querySelector('.cm-content').innerText.trim()"))
	require.Equal(u.t, "Graph", evaluate[string](u.browser, "document.querySelector('[role=tab][aria-selected=true]').textContent"))
	u.click("Table")
	u.done()
	require.Contains(u.t, u.text(), `path="/api"`)
	evaluate[any](u.browser, "history.back()")
	u.until(`document.querySelector('[role=tab][aria-selected=true]')?.textContent === 'Graph'`)
	// It is chosen as soon as the page has it.
	evaluate[any](u.browser, `new MutationObserver((_, o) => {
		const first = document.querySelector('.history button');
		if (first) { o.disconnect(); window.chosen = first.textContent; first.click() }
	}).observe(document.body, {childList: true, subtree: true})`)
	u.click("History")
	u.until(`window.chosen?.includes('demo_requests_total')`)
	u.until(`!document.querySelector('.history')`)
	u.done()
}

// accept takes the selected completion. The editor does not accept one that has just
// appeared.
func (u *ui) accept() {
	u.t.Helper()
	time.Sleep(100 * time.Millisecond)
	u.keys(kb.Tab)
	u.until(`!document.querySelector('.cm-tooltip-autocomplete')`)
}

// drag selects the second and third quarter of the graph.
func (u *ui) drag() {
	u.t.Helper()
	box := evaluate[[]float64](u.browser, `(() => { const r = document.querySelector('.u-over').getBoundingClientRect(); return [r.left, r.top, r.width, r.height] })()`)
	x, y := box[0], box[1]+box[3]/2
	require.NoError(u.t, chromedp.Do(u.ctx,
		chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x+box[2]/4, y),
		chromedp.MouseEvent(input.DispatchMouseEventTypeMousePressed, x+box[2]/4, y, chromedp.ButtonLeft),
		chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x+box[2]/2, y, chromedp.ButtonLeft),
		chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x+box[2]*3/4, y, chromedp.ButtonLeft),
		chromedp.MouseEvent(input.DispatchMouseEventTypeMouseReleased, x+box[2]*3/4, y, chromedp.ButtonLeft),
	))
}

// focusOn presses Tab until an element has the focus.
func (u *ui) focusOn(condition string) {
	u.t.Helper()
	for range 60 {
		if evaluate[bool](u.browser, "(e => "+condition+")(document.activeElement)") {
			return
		}
		u.keys(kb.Tab)
	}
	require.FailNow(u.t, "no such focus", "%s", condition)
}

// testKeyboard asks, changes tabs, reads values and zooms without a mouse.
func testKeyboard(u *ui) {
	u.open("/graph")
	u.until(`document.querySelector('.cm-content')`)
	u.keys(kb.Tab)
	require.Equal(u.t, "Skip to the page", evaluate[string](u.browser, "document.activeElement.textContent.trim()"))
	u.keys(kb.Enter)
	u.focusOn("e.classList.contains('cm-content')")
	u.keys("demo_requests_total @ " + fmt.Sprint(u.site.end.Unix()) + kb.Enter)
	u.done()
	u.focusOn("e.role === 'tab'")
	u.keys(kb.ArrowRight)
	u.done()
	u.until(`document.querySelector('.u-over')`)
	u.focusOn("e.classList.contains('plot')")
	u.keys(kb.ArrowLeft)
	u.keys(kb.ArrowLeft)
	u.until(`document.querySelector('.tip')?.textContent.includes('job="demo"')`)
	require.NotEmpty(u.t, evaluate[string](u.browser, "document.activeElement.ariaLabel"))
	before := evaluate[string](u.browser, "location.search")
	u.keys("+")
	u.until(fmt.Sprintf("location.search !== %q", before))
	u.done()
	require.Empty(u.t, evaluate[[]string](u.browser, unsound))
}

// testMissing sees the store that is down named in the answer and in the list.
func testMissing(u *ui) {
	u.graph("demo_requests_total", "graph")
	u.done()
	notice := evaluate[string](u.browser, `document.querySelector('[aria-label="Missing from this answer"]').innerText`)
	require.Contains(u.t, notice, "incomplete")
	require.Contains(u.t, notice, u.site.down)
	u.graph("demo_requests_total", "table", "g0.partial_response", "0")
	u.until(`document.querySelector('.notice.bad')?.textContent.includes('` + u.site.down + `')`)
	u.clean("answers 4", "answers 5", "Failed to load resource")
	u.graph("demo_requests_total{", "table")
	u.until(`document.querySelector('.notice.bad')?.textContent.includes('parse error')`)
	u.graph("demo_requests_total", "table", "g0.store_match", `{__address__="`+markup+`"}`)
	u.done()
	require.Contains(u.t, u.text(), "The answer has no series.")
	u.clean("answers 4", "Failed to load resource")
}

// testKill ends a query that blocks in stores: by Cancel, and by the API of running
// queries.
func testKill(u *ui) {
	stuck := func(n int64) {
		u.t.Helper()
		require.Eventually(u.t, func() bool { return u.site.silent.blocked.Load() == n }, 10*time.Second, 10*time.Millisecond, "%d calls block", n)
	}
	u.graph("stuck", "table")
	stuck(manyStores)
	u.click("Cancel")
	u.until(`document.querySelector('.status')?.dataset.status === 'cancelled'`)
	stuck(0)
	u.click("Run")
	stuck(manyStores)
	api := "http://" + u.site.query + prefix + "/api/v1/queries"
	var running struct {
		Data struct{ Queries []struct{ ID, Query string } }
	}
	resp, err := http.Get(api)
	require.NoError(u.t, err)
	defer resp.Body.Close()
	require.NoError(u.t, json.NewDecoder(resp.Body).Decode(&running))
	require.Len(u.t, running.Data.Queries, 1)
	require.Equal(u.t, "stuck", running.Data.Queries[0].Query)
	del, err := http.NewRequest(http.MethodDelete, api+"/"+running.Data.Queries[0].ID, nil)
	require.NoError(u.t, err)
	ended, err := http.DefaultClient.Do(del)
	require.NoError(u.t, err)
	require.NoError(u.t, ended.Body.Close())
	u.until(`document.querySelector('.notice.bad')?.textContent.includes('/api/v1/queries')`)
	stuck(0)
	u.clean("answers 422", "Failed to load resource")
}

// testForms shows every form of answers, with markup in labels.
func testForms(u *ui) {
	u.graph("demo_requests_total", "table")
	u.done()
	for _, want := range []string{markup, `script>alert(2)`, `\u202egnp.exe`} {
		require.Contains(u.t, u.text(), want)
	}
	u.graph("demo_requests_total", "stacked")
	u.done()
	require.Contains(u.t, u.text(), markup)
	u.picture("stacked")
	for _, expr := range []string{"demo_native", "demo_classic_bucket"} {
		u.graph(expr, "heatmap")
		u.done()
		u.until(`document.querySelector('.scale')`)
		u.until(colours + " > 3") // cells of several colours
		u.picture("heatmap-" + expr)
	}
	u.graph("demo_native", "table")
	u.done()
	require.Contains(u.t, u.text(), "sum 12")
	u.graph("demo_native", "graph")
	u.done()
	require.Contains(u.t, u.text(), "as a heatmap")
	u.graph(`sum(rate(demo_requests_total{path!="`+markup+`"}[5m])) / 2`, "explain")
	u.until(`document.body.innerText.includes('Evaluator')`)
	u.until(fmt.Sprintf(`document.body.innerText.includes('%d stores to ask, 1 left out')`, manyStores+2))
	u.click("Run and measure each node")
	u.until(`document.querySelectorAll('.measure').length >= 4 && document.body.innerText.includes('Samples read')`)
	require.Regexp(u.t, `3 series`, u.text())
	u.until(fmt.Sprintf(`document.body.innerText.includes('%d stores asked')`, manyStores+2))
	require.Contains(u.t, u.text(), u.site.down, "the stores that failed are first")
	stages := evaluate[map[string]float64](u.browser, `Object.fromEntries([...document.querySelectorAll('.explain tr')].map(e => [e.cells[0].innerText, parseFloat(e.cells[1].innerText)]).filter(([_, n]) => n >= 0))`)
	for _, stage := range []string{"Waiting for stores", "Chunks", "Samples read"} {
		require.Positive(u.t, stages[stage], "%s of %v", stage, stages)
	}
	for _, stage := range []string{"Evaluating", "Printing the result"} {
		require.Contains(u.t, stages, stage) // in tenths of a millisecond, which may be 0
	}
	// A run that fails says why, and shows no costs of the run before.
	evaluate[any](u.browser, `void (window.working = fetch, window.fetch = (url, o) => `+
		`String(url).includes('query_range_explain') ? Promise.reject(new Error('no route')) : working(url, o))`)
	u.click("Run and measure each node")
	u.until(`document.querySelector('.explain [role=alert]')?.innerText.includes('no route')`)
	require.NotContains(u.t, u.text(), "Samples read")
	require.Contains(u.t, u.text(), "stores to ask")
	u.graph(`demo_requests_total{cluster="eu-007"}`, "explain")
	u.until(`document.body.innerText.includes('no: has no label set that matches')`)
	u.picture("explain")
	u.graph("1+1", "table")
	u.done()
	require.Contains(u.t, u.text(), "scalar 2")
	u.click("Format")
	u.until(`document.querySelector('.cm-content').innerText.trim() === '1 + 1'`)
	u.click("Add a query")
	u.until(`document.querySelectorAll('.panel').length === 2`)
}

// colours counts the colours in a graph, roughly.
const colours = `(() => {
	const c = document.querySelector('.plot canvas');
	if (!c || !c.width || !c.height) return 0;
	const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
	const seen = new Map();
	for (let i = 0; i < d.length; i += 4) if (d[i+3] === 255) { const k = d[i]+','+d[i+1]+','+d[i+2]; seen.set(k, (seen.get(k) || 0) + 1) }
	return [...seen.values()].filter(n => n > 200).length;
})()`

// testLarge draws a thousand series, and scrolls their list: only the rows in view are
// in the document, and each step of scrolling is drawn in the frame after it.
func testLarge(u *ui) {
	u.graph("demo_many", "graph")
	u.done()
	u.until(`document.querySelector('.u-over') && document.body.innerText.includes('1\u202f000 series')`)
	u.picture("thousand")
	require.Equal(u.t, []int{}, evaluate[[]int](u.browser, scrollOf(".vbody"), chromedp.EvalAwaitPromise), "steps whose rows were late")
	require.Less(u.t, evaluate[int](u.browser, "document.querySelectorAll('.vitem').length"), 80)
	u.open("/stores")
	u.until(`document.querySelectorAll('.vitem').length > 5`)
	require.Equal(u.t, []int{}, evaluate[[]int](u.browser, scrollOf(".vbody"), chromedp.EvalAwaitPromise), "steps whose rows were late")
	require.Less(u.t, evaluate[int](u.browser, "document.querySelectorAll('.vitem').length"), 80)
}

// scrollOf goes through the first list that matches a selector in 10 steps, and returns the steps after which the view
// was not filled with rows within three frames.
func scrollOf(selector string) string {
	return strings.Replace(`(async () => {
	const body = document.querySelector('.vbody');
	const frame = () => new Promise(requestAnimationFrame);
	const late = [];
	for (let i = 1; i <= 10; i++) {
		body.scrollTop = body.scrollHeight * i / 10;
		for (let n = 0; n < 3; n++) await frame();
		const view = body.getBoundingClientRect();
		const rows = [...body.querySelectorAll('.vitem')].map(e => e.getBoundingClientRect());
		if (!(Math.min(...rows.map(r => r.top)) <= view.top + 1 && Math.max(...rows.map(r => r.bottom)) >= view.bottom - 3)) late.push(i);
	}
	return late;
})()`, ".vbody", selector, 1)
}

// testStores finds the store that is down, and a finding about external labels.
func testStores(u *ui) {
	u.open("/stores")
	u.until(`document.querySelector('.vitem')`)
	u.until(fmt.Sprintf(`document.body.innerText.includes('%d up')`, manyStores+2))
	first := evaluate[string](u.browser, "document.querySelector('.vitem').innerText")
	require.Contains(u.t, first, u.site.down, "what is missing is first")
	u.click("▸" + u.site.down)
	u.until(`document.querySelector('.vdetail')?.innerText.includes('refused')`)
	require.Contains(u.t, u.text(), "3 findings about labels and times, 1 error")
	u.picture("stores")
	evaluate[any](u.browser, `document.querySelectorAll('.vitem .expand')[1].click()`)
	u.until(`document.querySelectorAll('.vdetail')[1]?.innerText.includes('{cluster=' + JSON.stringify('` + markup + `'))`)
	evaluate[any](u.browser, `document.querySelector('input[type=search]').focus()`)
	u.keys("receive")
	u.until(`document.querySelectorAll('.vitem').length < 5`)
	u.click("Query")
	u.until(`location.pathname.endsWith('/graph')`)
}

// emulate sets the size and the colours of the window.
func (u *ui) emulate(width int64, scheme string) {
	u.t.Helper()
	_, err := chromedp.Call(u.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	require.NoError(u.t, err)
	require.NoError(u.t, chromedp.Do(u.ctx, chromedp.EmulateViewport(width, 844)))
}

// fits requires that nothing is wider than the window.
func (u *ui) fits(name string, width int64) {
	u.t.Helper()
	scroll, inner := evaluate[int](u.browser, "document.documentElement.scrollWidth"), evaluate[int](u.browser, "window.innerWidth")
	require.LessOrEqual(u.t, scroll, inner, "%s at %d pixels: %v", name, width, evaluate[[]string](u.browser,
		"[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className + ' ' + e.outerHTML.slice(0, 90))"))
}
