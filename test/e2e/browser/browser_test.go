// Package browser opens the pages of real processes in a real browser. It is a module of
// its own, because the driver of the browser is no dependency of the program.
package browser

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// TestMain sets bin, chromium and host, a loopback address, once.
var (
	bin      harness.Binaries
	chromium string
	host     string
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("the browser tests are left out with -short")
		return
	}
	var err error
	host = harness.Host()
	if chromium, err = exec.LookPath("chromium"); err != nil {
		os.Exit(m.Run()) // every test is skipped with a message
	}
	dir, err := os.MkdirTemp("", "hindsight-browser-")
	if err != nil {
		log.Fatal(err)
	}
	if bin, err = harness.Build(dir, os.Stderr); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		log.Print(err)
	}
	os.Exit(code)
}

func needBrowser(t *testing.T) {
	t.Helper()
	if chromium == "" {
		t.Skip("there is no chromium in PATH")
	}
}

// browser is a running chromium. It records errors, messages and requests of a page.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	host   string // the only host that pages may connect to
	faults []string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE "+host))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, b.event))
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{cdplog.Enable, runtime.Enable} {
		_, err := chromedp.Call(ctx, enable, cdp.Empty{})
		require.NoError(t, err)
	}
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	return b
}

func (b *browser) event(ev any) {
	switch e := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		b.fault("the page wrote to the console: %s %+v", e.Type, e.Args)
	case *runtime.EventExceptionThrown:
		b.fault("the page threw: %s", e.ExceptionDetails.Text)
	case *cdplog.EventEntryAdded:
		b.fault("the console has: %s %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *page.EventJavascriptDialogOpening:
		b.fault("the page opened a dialog: %s", e.Message)
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "data" && u.Scheme != "about" && u.Host != b.server() {
			b.fault("the page asks for %s", e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			b.fault("%s answers %d", e.Response.URL, e.Response.Status)
		}
	}
}

func (b *browser) server() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.host
}

func (b *browser) fault(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, fmt.Sprintf(format, args...))
}

// look opens a page in each size and colour scheme, checks it, and returns its text.
func (b *browser) look(server, path string) (text string) {
	b.t.Helper()
	b.mu.Lock()
	b.host = server
	b.mu.Unlock()
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			require.NoError(b.t, err)
			require.NoError(b.t, chromedp.Do(b.ctx, chromedp.EmulateViewport(width, 844), chromedp.Navigate("http://"+server+path)))
			scroll, inner := evaluate[int](b, "document.documentElement.scrollWidth"), evaluate[int](b, "window.innerWidth")
			overflow := evaluate[[]string](b, "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"+
				".map(e => e.tagName + ' ' + e.textContent.slice(0, 60))")
			text = evaluate[string](b, "document.body.innerText")
			require.LessOrEqual(b.t, scroll, inner, "%s must not scroll sideways at %d pixels", path, width)
			require.Empty(b.t, overflow, "%s at %d pixels", path, width)
			b.picture(fmt.Sprintf("%s-%s-%d-%s", b.t.Name(), strings.Trim(path, "/"), width, scheme))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, b.faults, "at %s", path)
	return text
}

func evaluate[T any](b *browser, expression string, opts ...chromedp.EvaluateOption) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, opts...))
	require.NoError(b.t, err, expression)
	return v
}

// picture saves a screenshot of the page in the directory HINDSIGHT_PICTURES, if set.
func (b *browser) picture(name string) {
	dir := os.Getenv("HINDSIGHT_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".png"), png, 0o644))
}

// hostileTenants are valid names that a page without escaping would execute.
func hostileTenants() []string {
	return []string{
		"team-a", `<img src=x onerror=alert(1)>`, `"><b onmouseover=alert(2)>bold`, `{{.}}`, `&lt;script&gt;`,
		"javascript:alert(3)", strings.Repeat("long-name-", 14), "\u202egnp.exe", "名前 with spaces", "a;DROP TABLE tenants", "%3Cb%3E",
	}
}

func write(t *testing.T, address, tenant string, samples int) {
	t.Helper()
	var batch []prompb.TimeSeries
	now := time.Now().UnixMilli()
	for i := range samples {
		batch = append(batch, harness.TimeSeries([]prompb.Sample{{Timestamp: now, Value: 1}}, "__name__", "page_total", "n", fmt.Sprint(i)))
	}
	w := harness.Writer{URL: "http://" + address + "/api/v1/receive", Header: http.Header{}}
	w.Header["Thanos-Tenant"] = []string{tenant}
	_, err := w.Write(batch)
	require.NoError(t, err, tenant)
}

// ready starts a process and waits for it.
func ready(t *testing.T, name, address string, args ...string) {
	t.Helper()
	p, err := harness.Start(t.TempDir(), name, bin.Hindsight, args...)
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.NoError(t, harness.WaitHTTP(p, "http://"+address+"/-/ready", time.Minute))
}

// A cluster of two running nodes and one that is down, with hostile names.
func TestReceivePages(t *testing.T) {
	needBrowser(t)
	ports, err := harness.Ports(host, 9)
	require.NoError(t, err)
	ring := []map[string]any{{
		"hashring": `<b>"ring"</b>`,
		"endpoints": []map[string]string{
			{"address": ports[0], "az": "eu-west-1a"}, {"address": ports[1], "az": `<i>1b</i>`}, {"address": ports[2], "az": "eu-west-1c"},
		},
	}}
	content, err := json.Marshal(ring)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ring.json")
	require.NoError(t, os.WriteFile(file, content, 0o644))
	broken := t.TempDir() // has a tenant whose log is no directory
	require.NoError(t, os.Mkdir(filepath.Join(broken, "<u>broken"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(broken, "<u>broken", "wal"), nil, 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(broken, "team-a"), 0o755))
	for i, dir := range []string{broken, t.TempDir()} {
		ready(t, fmt.Sprintf("receive-%d", i), ports[3+i], "receive", "--grpc-address="+ports[i], "--http-address="+ports[3+i],
			"--remote-write.address="+ports[6+i], "--tsdb.path="+dir, "--receive.hashrings-file="+file, "--receive.replication-factor=3")
	}
	for i, tenant := range hostileTenants() {
		write(t, ports[6], tenant, 1+i*37)
	}
	b := newBrowser(t)
	text := b.look(ports[3], "/ring")
	for _, want := range []string{ports[0], ports[1], ports[2], `<i>1b</i>`, `<b>"ring"</b>`, "this node", "answers", "cannot be reached", "connection refused"} {
		require.Contains(t, text, want)
	}
	for _, share := range shares(t, ports[3]) {
		require.Contains(t, text, share)
	}
	text = b.look(ports[3], "/tenants")
	for _, want := range hostileTenants() {
		want = strings.ReplaceAll(want, "\u202e", `\u202e`) // would reverse the text behind it
		require.Contains(t, text, want)
	}
	require.Contains(t, text, "<u>broken. Its writes are refused until then")
	text = b.look(ports[3], "/")
	require.Contains(t, text, "1 cannot be reached")
	require.Contains(t, text, "1 cannot be opened")
	require.Contains(t, text, "receive_replica")
}

// shares returns the shares of the three members of a ring, in the words of the page. They follow from the addresses, which differ in each run.
func shares(t *testing.T, address string) (percents []string) {
	t.Helper()
	resp, err := http.Get("http://" + address + "/api/v1/receive/ring")
	require.NoError(t, err)
	defer resp.Body.Close()
	var ring struct{ Members []struct{ Share float64 } }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&ring))
	require.Len(t, ring.Members, 3)
	sum := 0.0
	for _, m := range ring.Members {
		sum += m.Share
		percents = append(percents, fmt.Sprintf("%.1f%%", 100*m.Share))
	}
	require.InDelta(t, 1, sum, 1e-6)
	return percents
}

// The pages of all roles in one process.
func TestAllPages(t *testing.T) {
	needBrowser(t)
	ports, err := harness.Ports(host, 2)
	require.NoError(t, err)
	ready(t, "all", ports[0], "all", "--http-address="+ports[0], "--grpc-address="+ports[1], "--data-dir="+t.TempDir())
	b := newBrowser(t)
	write(t, ports[0], "<u>under</u>"[:8], 3)
	require.Contains(t, b.look(ports[0], "/"), "Tenants")
	require.Contains(t, b.look(ports[0], "/ring"), "has no ring and stores everything itself")
	require.Contains(t, b.look(ports[0], "/tenants"), "<u>under")
}
