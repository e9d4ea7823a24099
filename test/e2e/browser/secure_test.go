package browser

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// webConfig writes the configuration of a server with a certificate for the host and the
// user night with the password shift.
func webConfig(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	from := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(host)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, from, from, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"web.yml":  []byte("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\nbasic_auth_users: {night: " + shift + "}\n"),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return filepath.Join(dir, "web.yml")
}

// shift is the hash of the password, by bcrypt.
const shift = "$2a$04$ONY8tvXkR6nBRy5rRbKbM.cfZ0u2E2aXThpVJbWVTSU1oTLTFdfbu"

// Behind TLS and basic authentication the pages work, also after a link that has the
// password, which no page shows, and neither does it show other secrets of flags.
func TestSecure(t *testing.T) {
	needBrowser(t)
	ports, err := harness.Ports(host, 2)
	require.NoError(t, err)
	p, err := harness.Start(t.TempDir(), "query", bin.Hindsight, "query", "--http-address="+ports[0], "--grpc-address="+ports[1],
		"--http.config="+webConfig(t), "--web.link=Compactor=https://"+ports[0]+"/status?role=<b>",
		"--endpoint.sd-config={endpoints: [{address: '"+ports[1]+"'}]} # s3cret-of-a-store",
		"--alert.query-url=https://night:s3cret-of-a-link@example.org/?token=s3cret-of-a-link")
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(client.CloseIdleConnections)
	status := func(user string) int {
		r, err := http.NewRequest(http.MethodGet, "https://"+ports[0]+"/", nil)
		require.NoError(t, err)
		if user != "" {
			r.SetBasicAuth(user, "shift")
		}
		resp, err := client.Do(r)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	require.Eventually(t, func() bool { return status("night") == http.StatusOK }, time.Minute, 20*time.Millisecond, "%s", p.Tail(10))
	require.Equal(t, http.StatusUnauthorized, status(""))

	u := &ui{newBrowser(t), &uiSite{query: ports[0]}}
	u.host = ports[0]
	_, err = chromedp.Call(u.ctx, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
	require.NoError(t, err)
	u.site.origin = fmt.Sprintf("https://night:shift@%s", ports[0])
	u.open("/status")
	const shown = `document.querySelectorAll('.cards dl').length === 4 && document.querySelectorAll('.vitem').length > 5`
	u.until(shown)
	evaluate[any](u.browser, `document.querySelector('input[type=search]').focus()`)
	for _, flag := range []string{"alert.query-url+redacted", "endpoint.sd-config+redacted"} {
		u.open("/status?q=" + flag)
		u.until(`document.querySelectorAll('.vitem').length === 1`)
		require.Contains(t, u.text(), "<REDACTED>", flag)
	}
	u.open("/graph?g0.expr=1%2B1&g0.tab=table")
	u.done()
	require.Contains(t, u.text(), "scalar 2")
	for _, title := range []string{"Stores", "Status"} {
		u.click(title)
		u.until(fmt.Sprintf(`document.querySelector('h1')?.innerText === %q && !document.body.innerText.includes('Loading')`, title))
		page := evaluate[string](u.browser, "document.documentElement.outerHTML")
		require.NotContains(t, page, "s3cret")
		require.NotContains(t, page, "shift")
		require.NotContains(t, page, shift)
	}
	require.Equal(t, "Compactor ↗", evaluate[string](u.browser, `document.querySelector('nav.links a').innerText`))
	require.Equal(t, "https://"+ports[0]+"/status?role=%3Cb%3E", evaluate[string](u.browser, `document.querySelector('nav.links a').href`))
	u.clean("answers 401", "Failed to load resource: the server responded with a status of 401")
}
