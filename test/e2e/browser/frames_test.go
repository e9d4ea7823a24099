package browser

import (
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// watchFrames counts the frames from the answer of the API, the last one before the first
// rows or the graph, to the frame that shows them, and notes the time of both.
const watchFrames = `(() => {
	const seen = window.seen = { frames: 0, answered: 0, shown: 0, start: 0 };
	const real = Response.prototype.text;
	Response.prototype.text = async function () { const text = await real.call(this); if (!seen.shown && this.url.includes(seen.path ?? '/api/')) { seen.answered = performance.now(); seen.frames = 0; count() } return text };
	let counting = false;
	const count = () => { if (counting) return; counting = true; const frame = () => { seen.frames++; if (document.querySelector('.vitem, .u-over')) seen.shown = performance.now(); else requestAnimationFrame(frame) }; requestAnimationFrame(frame) };
})()`

// seen is what watchFrames has noted, in frames and milliseconds.
type seen struct{ Frames, Answered, Shown, Nodes float64 }

// maxFrames are 200 ms of 60 frames per second.
const maxFrames = 12

// testFrames opens the largest lists and the first graph in an empty cache. It counts the
// frames from the answer to the rows, the elements, and the requests and bytes; the times
// are printed only, as they depend on the machine.
func testFrames(u *ui) {
	script, err := chromedp.Call(u.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watchFrames})
	require.NoError(u.t, err)
	defer func() {
		_, err := chromedp.Call(u.ctx, page.RemoveScriptToEvaluateOnNewDocument, page.RemoveScriptToEvaluateOnNewDocumentParams{Identifier: script.Identifier})
		require.NoError(u.t, err)
	}()
	for _, path := range []string{"/stores", "/targets", "/rules", "/cardinality"} {
		u.open(path)
		u.frames(path)
	}
	_, err = chromedp.Call(u.ctx, network.ClearBrowserCache, cdp.Empty{})
	require.NoError(u.t, err)
	u.graph("shop_requests_total", "graph")
	s := u.frames("a graph")
	loaded := evaluate[[]float64](u.browser, `(() => { const all = performance.getEntriesByType('resource'); return [all.length, all.filter(e => e.name.includes('/assets/')).reduce((n, e) => n + e.encodedBodySize, 0), all.filter(e => e.name.includes('query_range')).length] })()`)
	u.t.Logf("first graph: %.0f ms after the navigation; %.0f requests, %.0f KiB of assets", s.Shown, loaded[0], loaded[1]/1024)
	require.LessOrEqual(u.t, loaded[0], 20.0, "requests")
	require.Less(u.t, loaded[1], 400.0*1024, "bytes")
	require.Positive(u.t, loaded[1])
	require.Equal(u.t, 1.0, loaded[2], "one query")
	u.graph("demo_many", "graph")
	u.frames("a graph of 1,000 series")
}

// frames waits for the rows, and bounds the frames and elements that they took.
func (u *ui) frames(what string) seen {
	u.t.Helper()
	u.until("window.seen?.shown")
	s := evaluate[seen](u.browser, "({ ...seen, nodes: document.querySelectorAll('*').length })")
	u.t.Logf("%s: %.0f frames and %.0f ms from the answer to the rows; %.0f elements", strings.TrimPrefix(what, "/"), s.Frames, s.Shown-s.Answered, s.Nodes)
	require.LessOrEqual(u.t, s.Frames, float64(maxFrames), what)
	require.Less(u.t, s.Nodes, 2500.0, fmt.Sprintf("elements of %s", what))
	return s
}
