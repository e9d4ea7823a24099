package browser

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

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
	u := drive(t, ports[3])
	u.visit(view{path: "/ring", ready: "document.querySelectorAll('.vitem').length === 3 && document.body.innerText.includes('cannot be reached')"})
	u.until(`document.querySelectorAll('.vdetail')[0]?.innerText.includes('connection refused')`)
	for _, want := range append(shares(t, ports[3]), ports[0], ports[1], ports[2], `<i>1b</i>`, `<b>"ring"</b>`, "this node", "receive_replica", "3 copies of each series") {
		require.Contains(t, u.text(), want)
	}
	u.visit(view{path: "/tenants", ready: "document.querySelectorAll('.vitem').length > 5 && document.body.innerText.includes('1 failed')"})
	u.until(`document.querySelector('.vdetail')?.innerText.includes('Its writes are refused until then')`)
	require.Contains(t, u.text(), "<u>broken")
	for _, tenant := range hostileTenants() {
		tenant = strings.ReplaceAll(tenant, "\u202e", `\u202e`) // would reverse the text behind it
		u.open("/tenants?q=" + url.QueryEscape(strings.ReplaceAll(tenant, `\u202e`, "")))
		u.until(fmt.Sprintf(`[...document.querySelectorAll('.vitem code')].some(e => e.innerText === %s)`, quoted(tenant)))
	}
	// The tenant with most series says of which metrics they are.
	u.open("/tenants?state=active")
	u.until(`document.querySelector('.vitem .expand')`)
	evaluate[any](u.browser, `document.querySelector('.vitem .expand').click()`)
	u.until(`document.querySelector('.vdetail .top-list')?.innerText.includes('page_total')`)
	u.clean()
	u.visit(status())
	u.errors("/ring", 3)
}

// quoted is a string literal of JavaScript.
func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
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
	write(t, ports[0], "<u>under</u>"[:8], 3)
	says(t, "http://"+ports[0]+"/api/v1/status/tsdb", "numSeries") // the querier knows its stores some time after the start
	u := drive(t, ports[0])
	u.open("/")
	for title, want := range map[string]string{
		"Stores": "2 up", "Blocks": "0 blocks", "Compaction": "Planned at", "Ring": "has no ring and stores everything itself",
		"Tenants": "<u>under", "Cardinality": "label pairs", "Status": "Memory budget",
	} {
		u.click(title)
		u.until(fmt.Sprintf(`document.querySelector('h1')?.innerText === %q && document.body.innerText.includes(%q)`, title, want))
	}
	// The process scrapes itself, so other metrics can have more series.
	u.open("/cardinality?q=page_total")
	u.until(`document.querySelector('.vitem')?.innerText.includes('page_total')`)
	u.clean()
}
