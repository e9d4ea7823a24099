package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// manyBlocks is how many blocks the bucket of the test has.
const manyBlocks = 10_000

// below serves the pages of a role below the prefix that a proxy takes off, and returns
// the address of the proxy.
func below(t *testing.T, address string) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	s := httptest.NewUnstartedServer(http.StripPrefix(prefix, proxy))
	require.NoError(t, s.Listener.Close())
	var err error
	s.Listener, err = net.Listen("tcp", host+":0")
	require.NoError(t, err)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// drive returns a browser for the pages of a role behind a proxy.
func drive(t *testing.T, address string) *ui {
	t.Helper()
	u := &ui{newBrowser(t), &uiSite{query: below(t, address)}}
	u.host = u.site.query
	return u
}

// fill writes the meta.json of n blocks of two hours in 50 groups, one of them with markup
// in its labels, and marks the first block with markup in the reason.
func fill(t *testing.T, dir string, n int) (first string) {
	t.Helper()
	write := func(id, name string, content any) {
		text, err := json.Marshal(content)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, id), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, id, name), text, 0o644))
	}
	const hours2 = int64(2 * time.Hour / time.Millisecond)
	begin := time.Now().Add(-manyBlocks/50*2*time.Hour).UnixMilli() / hours2 * hours2
	for i := range n {
		id := fmt.Sprintf("01J%023d", i) // a ULID
		cluster := fmt.Sprintf("eu-%02d", i%50)
		if i%50 == 0 {
			cluster = markup
		}
		from := begin + int64(i/50)*hours2
		write(id, "meta.json", map[string]any{
			"version": 1, "ulid": id, "minTime": from, "maxTime": from + hours2,
			"stats":      map[string]int{"numSamples": 1000, "numSeries": 10, "numChunks": 10},
			"compaction": map[string]any{"level": 1 + i/50%3, "sources": []string{id}},
			"thanos": map[string]any{
				"version": 1, "labels": map[string]string{"cluster": cluster}, "downsample": map[string]int{"resolution": 0}, "source": "sidecar",
				"files": []map[string]any{{"rel_path": "index", "size_bytes": 1 << 20}},
			},
		})
		if i == 0 {
			first = id
			write(id, "no-compact-mark.json", map[string]any{
				"id": id, "version": 1, "no_compact_time": 1, "reason": "manual", "details": markup + "\u202e",
			})
		}
	}
	return first
}

// TestBlocks walks the timeline of a bucket with many blocks, and marks one.
func TestBlocks(t *testing.T) {
	needBrowser(t)
	dir := t.TempDir()
	first := fill(t, dir, manyBlocks)
	ports, err := harness.Ports(host, 2)
	require.NoError(t, err)
	ready(t, "store", ports[0], "store", "--http-address="+ports[0], "--grpc-address="+ports[1], "--data-dir="+t.TempDir(),
		fmt.Sprintf("--objstore.config={type: FILESYSTEM, config: {directory: %q}}", dir))
	u := drive(t, ports[0])
	u.visit(view{"/blocks", `document.body.innerText.includes('10\u202f000 blocks') && document.querySelectorAll('.lane .level').length > 20`})
	u.open("/blocks")
	u.until("document.querySelectorAll('.lane .level').length > 20")
	require.Contains(t, u.text(), markup, "labels of the group")
	require.Equal(t, []int{}, evaluate[[]int](u.browser, scrollOf(".vtable[aria-label=blocks] .vbody"), chromedp.EvalAwaitPromise), "steps whose rows were late")
	require.Less(t, evaluate[int](u.browser, "document.querySelectorAll('.vitem').length"), 120)
	evaluate[any](u.browser, `document.querySelector('.timeline .level').click()`)
	u.until(`/^1 block\b/.test(document.querySelector('p.found').innerText)`)
	u.until(`location.search.includes('group=')`)
	u.click("Show all groups")
	u.focusOn("e.getAttribute('aria-pressed') === 'false'")
	u.keys("\r")
	u.until(`document.querySelector('p.found').innerText.startsWith('200 blocks')`)
	u.lanesByKeyboard()
	u.markFromElsewhere(first)
	_, err = os.Stat(filepath.Join(dir, first, "deletion-mark.json"))
	require.ErrorIs(t, err, os.ErrNotExist, "a page of another origin marked a block")
	u.open("/blocks?state=not+compacted&q=" + first)
	u.until(`document.querySelector('p.found')?.innerText.startsWith('1 block')`)
	u.click("▸" + first)
	u.until(`document.querySelector('.vdetail')?.innerText.includes('not compacted: manual: ' + '` + markup + `\\u202e')`)
	u.click("meta.json")
	u.clean()
	u.mark("Mark for deletion")
	mark, err := os.ReadFile(filepath.Join(dir, first, "deletion-mark.json"))
	require.NoError(t, err)
	require.Contains(t, string(mark), "too old")
	u.clean("opened a dialog: Mark block " + first + " for deletion?")
	u.visit(status())
	u.errors("/blocks", 2)
}

// lanesByKeyboard goes from the name of a group to the parts of its lanes, from one to the
// next and to another lane, and opens one.
func (u *ui) lanesByKeyboard() {
	u.t.Helper()
	u.open("/blocks")
	u.until("document.querySelectorAll('.lane .level').length > 20")
	const part = "document.activeElement.matches('.level')"
	u.focusOn("e.matches('.timeline .expand')")
	u.keys(kb.ArrowRight)
	u.until(part)
	first := evaluate[string](u.browser, "document.activeElement.ariaLabel")
	require.Contains(u.t, first, "level 3", "the highest level is the first lane")
	u.keys(kb.ArrowRight)
	u.until(part + fmt.Sprintf(" && document.activeElement.ariaLabel !== %q", first))
	require.NotEqual(u.t, "none", evaluate[string](u.browser, "getComputedStyle(document.activeElement).outlineStyle"), "the focus is seen")
	u.keys(kb.ArrowDown)
	u.until(part + " && document.activeElement.ariaLabel.includes('level 2')")
	u.keys(kb.ArrowUp + kb.Home)
	u.until(fmt.Sprintf("document.activeElement.ariaLabel === %q", first))
	u.keys(kb.ArrowLeft)
	u.until("document.activeElement.matches('.timeline .expand')")
	u.keys(kb.ArrowRight + kb.Enter)
	u.until("location.search.includes('from=') || location.search.includes('group=')")
	u.until(`/^\d+ blocks?\b/.test(document.querySelector('p.found').innerText) && !document.querySelector('p.found').innerText.startsWith('10')`)
	require.Empty(u.t, evaluate[[]string](u.browser, unsound))
	u.clean()
}

// markFromElsewhere sends the request that marks a block from a page of another origin, as
// a form that a browser sends without asking the server first. It is refused.
func (u *ui) markFromElsewhere(id string) {
	u.t.Helper()
	elsewhere := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><link rel=icon href="data:,"><title>elsewhere</title>`)
	}))
	require.NoError(u.t, elsewhere.Listener.Close())
	var err error
	elsewhere.Listener, err = net.Listen("tcp", host+":0")
	require.NoError(u.t, err)
	elsewhere.Start()
	defer elsewhere.Close()
	require.NoError(u.t, chromedp.Do(u.ctx, chromedp.Navigate(elsewhere.URL)))
	target := "http://" + u.site.query + prefix + "/api/v1/blocks/mark"
	evaluate[any](u.browser, fmt.Sprintf(`fetch(%q, { method: 'POST', mode: 'no-cors', body: new URLSearchParams({ id: %q, action: 'DELETION', detail: 'from elsewhere' }) }).then(r => r.type)`, target, id), chromedp.EvalAwaitPromise)
	require.Eventually(u.t, func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return slices.ContainsFunc(u.faults, func(f string) bool { return strings.HasPrefix(f, target+" answers 403") })
	}, 10*time.Second, 10*time.Millisecond, "the server refuses the request")
	u.clean("asks for "+elsewhere.URL, target+" answers 403", "status of 403")
}

// mark marks the open block, and accepts the question before it.
func (u *ui) mark(button string) {
	u.t.Helper()
	evaluate[any](u.browser, `document.querySelector('.vdetail input').focus()`)
	u.keys("too old")
	asked := make(chan error, 1)
	go func() {
		asked <- func() error {
			for range 500 {
				if _, err := chromedp.Call(u.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true}); err == nil {
					return nil
				}
				time.Sleep(10 * time.Millisecond)
			}
			return fmt.Errorf("no dialog")
		}()
	}()
	u.click(button)
	require.NoError(u.t, <-asked)
	u.until(`document.querySelector('.vdetail [role=status]')?.innerText.includes('is written')`)
}

// TestCompaction sees the blocks whose data is missing in quarantine, with their errors, the
// backlog, and how far a job is; and which metrics a block has.
func TestCompaction(t *testing.T) {
	needBrowser(t)
	dir := t.TempDir()
	fill(t, dir, 400)
	storage := fmt.Sprintf("{type: FILESYSTEM, config: {directory: %q}}", dir)
	stored := ship(t, dir, storage)
	ports, err := harness.Ports(host, 2)
	require.NoError(t, err)
	ready(t, "compact", ports[0], "compact", "--wait", "--http-address="+ports[0], "--data-dir="+t.TempDir(), "--consistency-delay=0s",
		"--objstore.config="+storage)
	u := drive(t, ports[0])
	u.open("/blocks")
	u.until(`document.querySelector('[aria-label="Findings about the sources of the bucket"]')?.innerText.includes('findings')`)
	evaluate[any](u.browser, `document.querySelector('[aria-label="Findings about the sources of the bucket"] details').open = true`)
	for _, want := range []string{"Sources that ship no more", `{cluster="` + markup + `"}: its newest block ends at`} {
		require.Contains(t, u.text(), want)
	}
	u.picture("blocks-findings")
	u.clean()
	u.visit(view{"/compaction", `document.querySelector('.vitem .missing') && document.querySelector('[aria-label=Backlog]')?.innerText.includes('To merge')`})
	u.click("JSON")
	u.until(`document.body.innerText.includes('"quarantined"')`)
	u.open("/compaction?state=quarantined")
	u.until(`document.querySelector('.vitem .missing')`)
	// A job that runs; those of the test have ended.
	u.open("/compaction")
	u.until(`document.querySelector('.vitem .expand')`)
	evaluate[any](u.browser, running)
	u.click("Refresh")
	u.until(`document.querySelector('.vitem')?.innerText.includes('42.0%, 1m 30s left')`)
	u.until(`document.querySelector('[aria-label=Backlog]').innerText.includes('It falls behind') && document.body.innerText.includes('never at this speed')`)
	u.picture("compaction-running")
	u.clean("favicon.ico") // of the JSON
	u.open("/blocks?q=" + stored)
	u.until(`document.querySelector('p.found')?.innerText.startsWith('1 block')`)
	u.click("▸" + stored)
	u.click("Cardinality")
	u.until(`document.querySelector('.vdetail [aria-label="Largest labels with their values"]')?.innerText.includes('` + markup + `')`)
	require.Contains(t, u.text(), "2 series, ")
	u.click("Cardinality of the bucket: the newest raw block of each source")
	u.until(`document.body.innerText.includes('50 sources could not be read') && document.querySelectorAll('[aria-label="Largest metrics"]').length === 2`)
	require.Empty(t, evaluate[[]string](u.browser, unsound))
	u.picture("block-cardinality")
	u.clean()
	u.visit(status())
	u.errors("/compaction", 3)
	explainsGateway(t, u, storage)
}

// explainsGateway sees in the explanation of a query which blocks a store gateway read,
// and what it got from the bucket; then it kills the gateway, and sees its labels and times
// named as missing.
func explainsGateway(t *testing.T, u *ui, storage string) {
	t.Helper()
	ports, err := harness.Ports(host, 4)
	require.NoError(t, err)
	gateway := ready(t, "store", ports[0], "store", "--http-address="+ports[0], "--grpc-address="+ports[1], "--data-dir="+t.TempDir(), "--objstore.config="+storage)
	ready(t, "query", ports[2], "query", "--http-address="+ports[2], "--grpc-address="+ports[3], "--endpoint="+ports[1])
	require.NoError(t, chromedp.Do(u.ctx, chromedp.Navigate("about:blank")))
	u.host, u.site = ports[2], &uiSite{query: ports[2], origin: "http://" + ports[2], end: time.Now().Add(time.Minute)}
	u.graph("demo_marked", "explain")
	u.click("Run and measure each node")
	cell := func(title string) string {
		return fmt.Sprintf("document.querySelector('.explain .vitem [data-title=%s]')", title)
	}
	u.until(cell("Blocks") + "?.innerText.startsWith('1 read')")
	require.Regexp(t, `^\d+ GETs?, [\d.]+ \w+\s+cache: \d+ of [1-9]\d* pages?$`, evaluate[string](u.browser, cell("Bucket")+".innerText"))
	gateway.Kill()
	u.graph(`demo_marked{cluster="whole"}`, "graph")
	u.until(`document.querySelector('[aria-label="Missing from this answer"]')`)
	notice := evaluate[string](u.browser, `document.querySelector('[aria-label="Missing from this answer"]').innerText`)
	for _, want := range []string{ports[1], "with data from", `cluster="whole"`, "refused"} {
		require.Contains(t, notice, want)
	}
	u.picture("killed")
	u.clean()
}

// ship ships a block of two series with markup in labels, and returns its name.
func ship(t *testing.T, dir, storage string) (id string) {
	t.Helper()
	ports, err := harness.Ports(host, 3)
	require.NoError(t, err)
	ready(t, "receive", ports[0], "receive", "--http-address="+ports[0], "--grpc-address="+ports[1], "--remote-write.address="+ports[2],
		"--tsdb.path="+t.TempDir(), "--objstore.config="+storage, `--label=cluster="whole"`)
	w := harness.Writer{URL: "http://" + ports[2] + "/api/v1/receive", Header: http.Header{}}
	at := []prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}
	_, err = w.Write([]prompb.TimeSeries{
		harness.TimeSeries(at, "__name__", "demo_marked", "job", markup), harness.TimeSeries(at, "__name__", "demo_plain", "job", "a"),
	})
	require.NoError(t, err)
	resp, err := http.Post("http://"+ports[0]+"/-/flush", "", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
	blocks, err := filepath.Glob(filepath.Join(dir, "*", "index")) // those of fill have none
	require.NoError(t, err)
	require.Len(t, blocks, 1)
	return filepath.Base(filepath.Dir(blocks[0]))
}

// running puts a job with markup that runs into the answers of the compactor.
const running = `(() => { const real = window.fetch; window.fetch = async (...a) => {
	const r = await real(...a), body = await r.json();
	body.data.running = [{ kind: 'merge', group: '` + markup + `', blocks: ['` + markup + `'], minTime: 1, maxTime: 2, samples: 1000, reason: '` + markup + `', started: new Date().toISOString(), samplesRead: 420, percent: 42, etaSeconds: 90 }];
	Object.assign(body.data.backlog, { keepsUp: 'no', etaSeconds: null, load: 1.5, groups: [{ group: '` + markup + `', blocks: 1, samples: 2, merge: { jobs: 1, blocks: 1, samples: 2 }, downsample: { jobs: 0, blocks: 0, samples: 0 } }], groupsTotal: 1 });
	return new Response(JSON.stringify(body));
} })()`
