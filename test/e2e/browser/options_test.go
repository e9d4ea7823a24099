package browser

import (
	"fmt"
	"net/url"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// field is the control of an option, by its label.
func field(label string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.options label')].find(e => e.innerText.trim().startsWith(%q))?.querySelector('select, input')`, label)
}

// choose sets the control of an option.
func (u *ui) choose(label, value string) {
	u.t.Helper()
	u.until(field(label))
	evaluate[any](u.browser, fmt.Sprintf(`(e => { e.value = %q; e.dispatchEvent(new Event('change')) })(%s)`, value, field(label)))
}

// asked returns the parameters of the last range query, and the tenant of its header.
func (u *ui) asked() (params url.Values, tenant string) {
	u.t.Helper()
	last := evaluate[[]string](u.browser, `asked.at(-1)`)
	link, err := url.Parse(last[0])
	require.NoError(u.t, err)
	return link.Query(), last[1]
}

// watchAsked notes the URL and the tenant of each range query.
const watchAsked = `(() => { const real = window.fetch; window.asked = []; window.fetch = (url, o) => {
	if (String(url).includes('query_range')) asked.push([String(url), new Headers(o?.headers).get('THANOS-TENANT') ?? '']);
	return real(url, o);
} })()`

// testOptions chooses each option of a query, sees it in the request and in the link, and
// opens the link.
func testOptions(u *ui) {
	u.graph("demo_requests_total", "graph")
	u.done()
	u.click("Options")
	evaluate[any](u.browser, watchAsked)
	for i, c := range []struct{ choice, asked string }{{"auto", "auto"}, {"raw", "0s"}, {"1h", "1h"}, {"5m", "5m"}} {
		u.choose("Resolution", c.choice)
		u.until(fmt.Sprintf("asked.length === %d", i+1))
		params, _ := u.asked()
		require.Equal(u.t, c.asked, params.Get("max_source_resolution"))
	}
	// A name that no proxy changes in a header.
	const tenant, store = "default-tenant", `{__address__=~".+"}`
	u.choose("Deduplication", "false")
	u.choose("Partial response", "true")
	u.choose("Replica labels", "a, receive_replica")
	u.choose("Tenant", tenant)
	u.choose("Only these stores", store)
	u.until("asked.length === 9")
	u.done()
	want := url.Values{
		"dedup": {"false"}, "partial_response": {"true"}, "max_source_resolution": {"5m"}, "replicaLabels[]": {"a", "receive_replica"}, "storeMatch[]": {store},
	}
	params, header := u.asked()
	for name, values := range want {
		require.Equal(u.t, values, params[name], name)
	}
	require.Equal(u.t, tenant, header)

	link := evaluate[string](u.browser, "location.search")
	u.open("/graph" + link + "&refresh=1s")
	u.done()
	u.until(`document.querySelector('.options summary').innerText === 'Options: deduplication off · partial response allowed · resolution 5m · replica labels a, receive_replica · 1 store filter · tenant default-tenant'`)
	u.click("Options: deduplication off · partial response allowed · resolution 5m · replica labels a, receive_replica · 1 store filter · tenant default-tenant")
	u.until(field("Tenant"))
	for label, value := range map[string]string{
		"Deduplication": "false", "Partial response": "true", "Resolution": "5m", "Replica labels": "a,receive_replica", "Tenant": tenant,
	} {
		require.Equal(u.t, value, evaluate[string](u.browser, field(label)+".value"), label)
	}
	require.Equal(u.t, store, evaluate[string](u.browser, `document.querySelector('.chips code').innerText`))
	u.picture("options")
	// The refresh of the link asks again, with the same options.
	evaluate[any](u.browser, watchAsked)
	u.until("asked.length >= 2")
	params, header = u.asked()
	for name, values := range want {
		require.Equal(u.t, values, params[name], name)
	}
	require.Equal(u.t, tenant, header)
	const refresh = `[...document.querySelectorAll('label')].find(e => e.innerText.startsWith('Refresh')).querySelector('select')`
	require.Equal(u.t, "1s", evaluate[string](u.browser, refresh+".value"))
	evaluate[any](u.browser, `(e => { e.value = '0s'; e.dispatchEvent(new Event('change')) })(`+refresh+`)`)
	u.until(`!location.search.includes('refresh')`)
	u.done()
}

// testLint sees the wrong part of an expression underlined, with the reason, also from the
// server; and the help of a function.
func testLint(u *ui) {
	u.open("/")
	u.until(`document.querySelector('.cm-content')`)
	evaluate[any](u.browser, `document.querySelector('.cm-content').focus()`)
	u.keys("quantile_ov")
	u.until(`document.querySelector('.cm-tooltip-autocomplete li[aria-selected]')?.innerText.includes('quantile_over_time')`)
	u.until(`document.querySelector('.cm-completionInfo')?.innerText.includes('quantile')`)
	u.graph("sum(rate(demo_requests_total))", "table")
	u.until(`document.querySelector('.cm-lintRange-error')?.innerText === 'demo_requests_total'`)
	box := evaluate[[]float64](u.browser, `(() => { const r = document.querySelector('.cm-lintRange-error').getBoundingClientRect(); return [r.left + 20, r.top + r.height / 2] })()`)
	require.NoError(u.t, chromedp.Do(u.ctx, chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, box[0], box[1])))
	u.until(`document.querySelector('.cm-tooltip .cm-diagnostic')?.innerText.includes('expected type matrix')`)
	u.picture("lint")
	u.click("Format")
	u.until(`[...document.querySelectorAll('.notice.bad')].some(e => e.innerText.startsWith('invalid parameter') && e.innerText.includes('expected type range vector'))`)
	u.clean("answers 400", "Failed to load resource")
}
