// Package browser opens the pages of real processes in a real browser. It is a module of
// its own, because the driver of the browser is no dependency of the program.
package browser

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
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
	ctx, stop = context.WithTimeout(ctx, 8*time.Minute) // a test takes a minute on a quiet machine
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

// ready starts a process, and returns it when it is ready.
func ready(t *testing.T, name, address string, args ...string) *harness.Process {
	t.Helper()
	p, err := harness.Start(t.TempDir(), name, bin.Hindsight, args...)
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.NoError(t, harness.WaitHTTP(p, "http://"+address+"/-/ready", time.Minute))
	return p
}

// The recorder of faults, on which all tests rely, sees what a page must not do.
func TestRecorder_SeesEachKindOfFault(t *testing.T) {
	needBrowser(t)
	ports, err := harness.Ports(host, 2)
	require.NoError(t, err)
	ready(t, "query", ports[0], "query", "--http-address="+ports[0], "--grpc-address="+ports[1])
	u := &ui{newBrowser(t), &uiSite{query: ports[0], origin: "http://" + ports[0]}}
	u.host = ports[0]
	for _, c := range []struct{ name, page, script, fault string }{
		{"inline script", "/status", "document.head.append(Object.assign(document.createElement('script'), { textContent: '1' }))", "Content Security Policy"},
		{"script of another server", "/status", "document.head.append(Object.assign(document.createElement('script'), { src: 'http://elsewhere.invalid/x.js' }))", "Content Security Policy"},
		{"foreign request", "", "new Image().src = 'http://elsewhere.invalid/x.png'", "the page asks for http://elsewhere.invalid/x.png"},
		{"console", "/status", "console.error('broken')", "the page wrote to the console: error"},
		{"exception", "/status", "setTimeout(() => { throw new Error('broken') })", "the page threw"},
		{"missing file", "/status", "fetch('assets/missing.js')", "answers 404"},
	} {
		if c.page == "" {
			// A page without a policy, which would stop the request before it is sent.
			require.NoError(t, chromedp.Do(u.ctx, chromedp.Navigate("about:blank")))
		} else {
			u.open(c.page)
			u.until(`document.querySelectorAll('.cards dl').length === 4`)
		}
		u.clean()
		evaluate[any](u.browser, "void ("+c.script+")")
		require.Eventually(t, func() bool {
			u.mu.Lock()
			defer u.mu.Unlock()
			return strings.Contains(strings.Join(u.faults, "\n"), c.fault)
		}, 10*time.Second, 10*time.Millisecond, c.name)
		u.mu.Lock()
		t.Log(c.name, u.faults)
		u.mu.Unlock()
		require.NoError(t, chromedp.Do(u.ctx, chromedp.Navigate("about:blank")))
		time.Sleep(100 * time.Millisecond) // the console reports a failed request after the request
		u.mu.Lock()
		u.faults = nil
		u.mu.Unlock()
	}
}
