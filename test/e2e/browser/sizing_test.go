package browser

import (
	"encoding/json"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sizing"
)

// need is the text of the amount of a resource on the page.
func need(part, resource string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.vitem')].find(e => e.innerText.startsWith(%q))?.querySelector('b').innerText`, part+"\n"+resource)
}

// set writes a value into a field of the page.
func (u *ui) set(name, value string) {
	u.t.Helper()
	evaluate[any](u.browser, fmt.Sprintf(`(e => { e.value = %q; e.dispatchEvent(new Event('change')) })(document.querySelector('input[name=%q]'))`, value, name))
}

// testSizing computes sizes for several loads, opens the link of one, and gives a load
// without a size.
func testSizing(u *ui) {
	u.open("/status")
	u.click("Sizing: what a load needs")
	u.until(`location.pathname.endsWith('/sizing') && ` + need("sidecar", "memory"))
	require.Equal(u.t, "Status", evaluate[string](u.browser, `document.querySelector('nav [aria-current]').innerText`))
	var shown map[string]string
	require.NoError(u.t, json.Unmarshal([]byte(evaluate[string](u.browser,
		`JSON.stringify(Object.fromEntries([...document.querySelectorAll('main input')].map(e => [e.name, e.type === 'checkbox' ? String(e.checked) : e.value])))`)), &shown))
	require.Equal(u.t, sizing.Defaults(), shown, "the page shows the defaults of the server")
	first := evaluate[string](u.browser, need("bucket", "raw"))

	u.set("series", "2000000")
	u.until(need("bucket", "raw") + " !== " + fmt.Sprintf("%q", first))
	u.set("receive.nodes", "6")
	u.until(need("receive", "memory"))
	require.Equal(u.t, "?series=2000000&receive.nodes=6", evaluate[string](u.browser, "location.search"))
	evaluate[any](u.browser, `document.querySelector('input[name="downsampling.disable"]').click()`)
	u.until(need("bucket", "5m") + " === '0 B'")
	memory := evaluate[string](u.browser, need("receive", "memory"))
	u.open("/sizing" + evaluate[string](u.browser, "location.search"))
	u.until(need("receive", "memory") + " === " + fmt.Sprintf("%q", memory))
	require.True(u.t, evaluate[bool](u.browser, `document.querySelector('input[name="downsampling.disable"]').checked`))
	u.picture("sizing")

	u.set("receive.nodes", "2")
	u.until(`document.body.innerText.includes('a replication factor of 3 needs at least as many')`)
	u.set("interval", markup)
	u.until(`document.body.innerText.includes('give a duration such as 15s or 30d')`)
	u.set("interval", "15s")
	u.set("receive.nodes", "0")
	u.until(need("sidecar", "memory"))
	u.clean("status of 400", "answers 400")
	u.visit(view{"/sizing", need("sidecar", "memory")})
}
