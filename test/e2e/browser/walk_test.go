package browser

import (
	"fmt"
	"strings"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// view is a page, and an expression that is true once it shows its data.
type view struct{ path, ready string }

// injected lists elements and attributes that no page has: names with markup made them.
const injected = `[...document.querySelectorAll('img:not(.cm-widgetBuffer), iframe, object, embed, main script, main u, [onerror], [onload], [onclick], [onmouseover], a[href^="javascript:" i]')].map(e => e.outerHTML.slice(0, 200))`

// unsound lists the faults of the document that users of screen readers, of keyboards, or
// with weak eyes meet: controls without a name, a missing or second heading, equal ids,
// and text with less contrast than WCAG AA asks for.
const unsound = `(() => {
	const out = [];
	const name = e => e.ariaLabel || e.textContent.trim() || e.closest('label')?.textContent.trim() || e.getAttribute('aria-labelledby');
	for (const e of document.querySelectorAll('a, button, input, select, summary, meter, [tabindex="0"], [role=img]')) if (!name(e)) out.push('no name: ' + e.outerHTML.slice(0, 150));
	const headings = document.querySelectorAll('h1').length;
	if (headings !== 1) out.push(headings + ' headings of the first level');
	for (const tag of ['main', 'header', 'nav']) if (!document.querySelector(tag)) out.push('no ' + tag);
	if (!document.documentElement.lang) out.push('no language');
	const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
	ids.filter((id, i) => ids.indexOf(id) !== i).forEach(id => out.push('second id ' + id));
	const parse = text => { const n = text.match(/[\d.]+/g).map(Number); return { rgb: n.slice(0, 3), alpha: n[3] ?? 1 } };
	const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
	const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.alpha === 1) return c.rgb } return [255, 255, 255] };
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const seen = new Set();
	for (let n = texts.nextNode(); n; n = texts.nextNode()) {
		const e = n.parentElement, style = getComputedStyle(e);
		if (!n.data.trim() || e.closest('script, style, noscript, option, .sr, .skip, [aria-busy=true]') || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
		const fg = parse(style.color).rgb, bg = behind(e), key = fg + '/' + bg;
		if (seen.has(key)) continue;
		seen.add(key);
		const [a, b] = [light(fg), light(bg)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) out.push('contrast ' + ratio.toFixed(1) + ' of ' + key + ': ' + n.data.slice(0, 40));
	}
	return out;
})()`

// visit opens a page at a phone in the dark and at a desktop in the light, and looks at
// it; then it walks over the page with the keyboard only.
func (u *ui) visit(v view) {
	u.t.Helper()
	for _, width := range []int64{360, 1280} {
		u.emulate(width, map[int64]string{360: "dark", 1280: "light"}[width])
		u.open(v.path)
		u.until(v.ready)
		u.fits(v.path, width)
		require.Empty(u.t, evaluate[[]string](u.browser, unsound), "%s at %d pixels", v.path, width)
		background := evaluate[string](u.browser, "getComputedStyle(document.body).backgroundColor")
		require.Equal(u.t, width == 360, background == "rgb(18, 21, 28)", background)
		u.picture(fmt.Sprintf("%s-%d", strings.Trim(v.path, "/"), width))
	}
	u.tabs(v.path)
	u.rowsByKeyboard(v.path)
	u.filterByKeyboard(v)
	u.clean()
}

// watchFocus notes each element that gets the focus.
const watchFocus = `window.stops = new Set(), addEventListener('focusin', e => stops.add(e.target)), 0`

// stop returns what is wrong with the stop that has the focus: it is out of view, or no
// ring is drawn around it. A list may need some frames to draw its row. A control can have
// parts that are stops of their own, with a look of their own, and no event reports them.
const stop = `(async () => {
	const fault = e => {
		if (e === document.body) return '';
		const r = e.getBoundingClientRect(), around = e.closest('.editor');
		if (r.bottom <= 0 || r.top >= innerHeight || r.right <= 0 || r.left >= innerWidth) return 'out of view: ' + e.outerHTML.slice(0, 150);
		const ring = getComputedStyle(e).outlineStyle !== 'none' || around && getComputedStyle(around).boxShadow !== 'none' || e.id === 'main';
		return ring ? '' : 'focus is not seen: ' + e.outerHTML.slice(0, 150);
	};
	for (let frames = 0; frames < 60 && fault(document.activeElement); frames++) await new Promise(requestAnimationFrame);
	return fault(document.activeElement);
})()`

// missed are the controls that the Tab key should have reached.
const missed = `[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
	.filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true }) && !stops.has(e)).map(e => e.outerHTML.slice(0, 150))`

// tabs presses Tab until all controls had the focus, and looks at each stop. A list with
// thousands of rows is a few stops.
func (u *ui) tabs(path string) {
	u.t.Helper()
	evaluate[any](u.browser, watchFocus)
	for range 144 {
		u.keys(kb.Tab)
		require.Empty(u.t, evaluate[string](u.browser, stop, chromedp.EvalAwaitPromise), path)
		if evaluate[int](u.browser, missed+".length") == 0 {
			return
		}
	}
	require.Empty(u.t, evaluate[[]string](u.browser, missed), "%s: controls that Tab does not reach", path)
}

// rowsByKeyboard goes to the last row and back, and opens the first one.
func (u *ui) rowsByKeyboard(path string) {
	u.t.Helper()
	rows := evaluate[int](u.browser, `Number([...document.querySelectorAll('.vtable')].at(-1)?.getAttribute('aria-rowcount') ?? 1) - 1`)
	if rows < 1 || !evaluate[bool](u.browser, `!![...document.querySelectorAll('.vtable')].at(-1).querySelector('.vrow .expand[aria-expanded]')`) {
		return
	}
	u.focusOn("e.matches('.vtable .vrow .expand[aria-expanded]')")
	at := func(row int) string {
		return fmt.Sprintf(`document.activeElement.closest('.vitem')?.dataset.index === '%d' && document.activeElement.matches('.expand')`, row)
	}
	u.keys(kb.End)
	u.until(at(rows - 1))
	if rows > 1 {
		u.keys(kb.ArrowUp)
		u.until(at(rows - 2))
	}
	u.keys(kb.Home)
	u.until(at(0))
	u.keys(kb.Enter)
	u.until(`document.activeElement.ariaExpanded === 'true' && document.querySelector('.vdetail')`)
	require.Empty(u.t, evaluate[[]string](u.browser, unsound), "%s with an open row", path)
}

// filterByKeyboard writes into the filter, and opens the link that results.
func (u *ui) filterByKeyboard(v view) {
	u.t.Helper()
	if !evaluate[bool](u.browser, `!!document.querySelector('input[type=search]')`) {
		return
	}
	u.focusOn("e.type === 'search'")
	u.keys("qzx")
	u.until(`new URLSearchParams(location.search).get('q') === 'qzx' && document.querySelectorAll('.vtable:last-of-type .vitem').length === 0`)
	link := evaluate[string](u.browser, "location.search")
	u.open(v.path + link)
	u.until(`document.querySelector('input[type=search]')?.value === 'qzx'`)
	u.open(v.path)
	u.until(v.ready)
	if evaluate[int](u.browser, `document.querySelectorAll('.vrow .expand[aria-expanded]').length`) > 0 {
		evaluate[any](u.browser, `[...document.querySelectorAll('.vrow .expand[aria-expanded]')][0].click()`)
		u.until(`document.querySelector('.vdetail')`)
	}
}

// status is the page of a role that does not query: its flags, runtime and build.
func status() view {
	return view{"/status", "document.querySelectorAll('.cards dl').length === 2 && document.querySelectorAll('.vitem').length > 10 && document.body.innerText.includes('Goroutines')"}
}

// testWalk visits the pages of a querier, below its prefix.
func testWalk(u *ui) {
	const rows = `document.querySelector('.vitem')`
	for _, v := range []view{
		{"/stores", rows + ` && document.querySelector('[aria-label="Findings about labels and times"]')`},
		{"/targets", rows}, {"/rules", rows}, {"/alerts", rows}, {"/cardinality", rows},
		{"/queries", "document.querySelector('.vtable')"},
		{"/top-queries", "document.querySelector('.vtable')"},
		{"/status", rows + " && document.querySelectorAll('.cards dl').length === 4"},
	} {
		u.visit(v)
	}
}

// testLook opens a graph and a table at a phone and a desktop, light and dark.
func testLook(u *ui) {
	for _, width := range []int64{1280, 360} {
		for _, scheme := range []string{"light", "dark"} {
			u.emulate(width, scheme)
			u.graph("demo_requests_total", "graph", "g1.expr", `topk(5, demo_many)`, "g1.tab", "table", "g1.end_input", u.site.at())
			u.until(`document.querySelectorAll('[data-status=done]').length === 2 && document.querySelector('.u-over')`)
			u.fits("graph", width)
			require.Empty(u.t, evaluate[[]string](u.browser, unsound), "at %d pixels, %s", width, scheme)
			u.picture(fmt.Sprintf("graph-%d-%s", width, scheme))
		}
	}
	u.emulate(1280, "dark")
	u.tabs("/graph")
	// The switch overrides the system.
	evaluate[any](u.browser, `(() => { const s = [...document.querySelectorAll('.settings select')].at(-1); s.value = 'light'; s.dispatchEvent(new Event('change')) })()`)
	u.until(`getComputedStyle(document.body).backgroundColor !== 'rgb(18, 21, 28)'`)
	evaluate[any](u.browser, `localStorage.clear()`)
}

// testErrors goes to each page of a querier while the server answers with an error that
// has markup.
func testErrors(u *ui) { u.errors("/status", 9) }

// errors opens a page, goes to the other ones of its process and back, and gets errors with
// markup from then on; it expects n pages.
func (u *ui) errors(first string, n int) {
	u.t.Helper()
	u.open(first)
	u.until(`document.querySelector('h1') && document.querySelector('.vtable, .vitem, dl')`)
	evaluate[any](u.browser, `window.fetch = () => Promise.resolve(new Response('{"status":"error","errorType":"bad_data","error":' + JSON.stringify('refused `+markup+`') + '}', { status: 500 })), 0`)
	links := evaluate[[]string](u.browser, `[...document.querySelectorAll('nav[aria-label=Pages] a')].map(e => e.innerText)`)
	require.Len(u.t, links, n)
	for _, title := range append(links[1:], links[0]) {
		u.click(title)
		if title == "Query" {
			u.until(`document.querySelector('.cm-content')`)
			evaluate[any](u.browser, `document.querySelector('.cm-content').focus()`)
			u.keys("up" + kb.Escape + kb.Enter)
		} else {
			u.click("Refresh") // the page may have been open
		}
		u.until(fmt.Sprintf(`document.querySelector('[aria-current=page]')?.innerText === %q && document.querySelector('[role=alert]')?.innerText.includes('refused `+markup+`')`, title))
		u.clean()
	}
}
