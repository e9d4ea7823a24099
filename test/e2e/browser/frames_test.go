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
// rows or the graph, to the frame after the one that shows them, and notes the time of
// both. When a worker reads the answer, the frames that the page draws meanwhile are waited,
// and the count begins when it is read. It also notes when all series are drawn, the tasks
// that kept the page from input for more than 50 ms, and the longest text that the page
// itself parsed.
const watchFrames = `(() => {
	const seen = window.seen = { frames: 0, waited: 0, answered: 0, shown: 0, drawn: 0, parsed: 0, long: [] };
	for (const read of ['text', 'arrayBuffer']) {
		const real = Response.prototype[read];
		Response.prototype[read] = async function () { const body = await real.call(this); if (!seen.shown && this.url.includes('/api/')) { seen.answered = performance.now(); seen.frames = 0; count() } return body };
	}
	window.Worker = class extends Worker { constructor(...args) { super(...args); this.addEventListener('message', () => { if (!found) { seen.waited = seen.frames; seen.frames = 0 } }) } };
	const parse = JSON.parse;
	JSON.parse = (text, ...rest) => { seen.parsed = Math.max(seen.parsed, text.length); return parse(text, ...rest) };
	let counting = false, found = false;
	const count = () => { if (counting) return; counting = true; const frame = () => { seen.frames++; if (found) { seen.shown = performance.now(); drawn() } else { found = !!document.querySelector(document.querySelector('.plot') ? '.u-over' : '.vitem'); requestAnimationFrame(frame) } }; requestAnimationFrame(frame) };
	const drawn = () => { if (document.querySelector('.plot:not([aria-busy=false])')) requestAnimationFrame(drawn); else seen.drawn = performance.now() };
	new PerformanceObserver(list => list.getEntries().forEach(e => seen.long.push([e.startTime, e.duration]))).observe({ type: 'longtask', buffered: true });
})()`

// seen is what watchFrames has noted, in frames and milliseconds.
type seen struct {
	Frames, Waited, Answered, Shown, Drawn, Parsed, Nodes, Slices float64
	Long                                                          [][2]float64 // start and duration
}

// maxFrames are 200 ms of 60 frames per second.
const maxFrames = 12

// testFrames opens the largest lists and the first graph in an empty cache. It counts the
// frames from the answer to the rows, the elements, and the requests and bytes; the times
// are printed only, as they depend on the machine.
func testFrames(u *ui) {
	script, err := chromedp.Call(u.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watchFrames})
	require.NoError(u.t, err)
	defer func() {
		_, err := chromedp.Call(u.ctx, page.RemoveScriptToEvaluateOnNewDocument, page.RemoveScriptToEvaluateOnNewDocumentParams(script))
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
	s = u.frames("a graph of 1,000 series")
	require.GreaterOrEqual(u.t, s.Slices, 4.0, "the graph is drawn in slices")
	require.Less(u.t, s.Parsed, float64(1<<18), "a worker parses large answers")
}

// frames waits for the rows, and bounds the frames and elements that they took.
func (u *ui) frames(what string) seen {
	u.t.Helper()
	u.until("window.seen?.drawn")
	s := evaluate[seen](u.browser, "({ ...seen, nodes: document.querySelectorAll('*').length, slices: Number(document.querySelector('.plot')?.dataset.slices ?? 1) })")
	longest, tasks := 0.0, 0
	for _, task := range s.Long {
		if task[0]+task[1] > s.Answered {
			longest, tasks = max(longest, task[1]), tasks+1
		}
	}
	u.t.Logf("%s: %.0f frames (and %.0f while a worker read) and %.0f ms from the answer to the rows; all in %.0f slices after %.0f ms; %d tasks over 50 ms, the longest %.0f ms; %.0f elements",
		strings.TrimPrefix(what, "/"), s.Frames, s.Waited, s.Shown-s.Answered, s.Slices, s.Drawn-s.Answered, tasks, longest, s.Nodes)
	require.LessOrEqual(u.t, s.Frames, float64(maxFrames), what)
	require.Less(u.t, s.Nodes, 2500.0, fmt.Sprintf("elements of %s", what))
	return s
}
