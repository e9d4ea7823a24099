package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// protected is a Prometheus that demands TLS, a client certificate and a password, under
// a path prefix.
type protected struct {
	*harness.Site
	t    *testing.T
	addr string
}

// secure replaces the certificates and the password on both sides.
func (p *protected) secure(a *authority, password string) {
	p.t.Helper()
	a.issue(p.Path("tls"), "prometheus")
	a.issue(p.Path("tls"), "sidecar")
	replaceFile(p.t, p.Path("tls", "ca.crt"), a.pem)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(p.t, err)
	replaceFile(p.t, p.Path("tls", "web.yml"), fmt.Appendf(nil, `
tls_server_config: {cert_file: prometheus.crt, key_file: prometheus.key, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}
basic_auth_users: {hindsight: %q}
`, hash))
	replaceFile(p.t, p.Path("tls", "password"), []byte(password))
}

// sidecar starts one with the client configuration and returns its process.
func (p *protected) sidecar(name, address, url, client string) *harness.Process {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(p.Path(name+".yml"), []byte(client), 0o600))
	proc, err := harness.Start(p.Dir, name, bin.Hindsight, "sidecar", "--log.level=debug",
		"--http-address="+address, "--grpc-address="+harness.Host()+":0", "--tsdb.path="+p.Path("prometheus"),
		"--prometheus.url="+url, "--prometheus.http-client-file="+p.Path(name+".yml"), "--prometheus.get_config_interval=500ms")
	require.NoError(p.t, err)
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("the end of the log of %s:\n%s", name, proc.Tail(15))
		}
		proc.Kill()
	})
	return proc
}

// A Prometheus with TLS, client certificate, password and path prefix, and one behind a
// proxy that wants a token, are reached with the usual client configuration, also
// after all certificates, authorities and secrets were replaced. No log has a secret.
func TestSidecar_ReachesProtectedPrometheus(t *testing.T) {
	t.Parallel()
	host := harness.Host()
	addr, err := harness.Ports(host, 3)
	require.NoError(t, err)
	p := &protected{Site: newSite(t), t: t, addr: "localhost"}
	old, young := newAuthority(t, "old"), newAuthority(t, "young")
	p.secure(old, "first-secret")
	require.NoError(t, os.MkdirAll(p.Path("prometheus"), 0o755))
	require.NoError(t, os.WriteFile(p.Path("p.yml"), []byte("global: {external_labels: {cluster: a}}\n"), 0o600))
	prom, err := harness.Start(p.Dir, "protected", bin.Prometheus, "--config.file="+p.Path("p.yml"),
		"--storage.tsdb.path="+p.Path("prometheus"), "--web.listen-address="+addr[0], "--web.config.file="+p.Path("tls", "web.yml"),
		"--web.external-url=https://example.com/prom/", "--web.enable-lifecycle", "--log.level=warn")
	require.NoError(t, err)
	t.Cleanup(prom.Kill)

	sidecar := p.sidecar("protected-sidecar", addr[1], "https://"+addr[0]+"/prom", fmt.Sprintf(`
basic_auth: {username: hindsight, password_file: %[1]s/password}
tls_config: {ca_file: %[1]s/ca.crt, cert_file: %[1]s/sidecar.crt, key_file: %[1]s/sidecar.key, server_name: localhost}
`, p.Path("tls")))
	require.NoError(t, harness.WaitHTTP(sidecar, "http://"+addr[1]+"/-/ready", time.Minute))

	// The proxy is that of a service mesh: it knows the token, and Prometheus the proxy.
	token := "token-secret-1"
	target, err := url.Parse("https://" + addr[0])
	require.NoError(t, err)
	rewrite := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		password, err := os.ReadFile(p.Path("tls", "password"))
		require.NoError(t, err)
		r.Out.SetBasicAuth("hindsight", string(password))
	}, Transport: &http.Transport{TLSClientConfig: old.client(old, young), DisableKeepAlives: true}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		rewrite.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	bearer := p.sidecar("bearer-sidecar", addr[2], proxy.URL+"/prom", "bearer_token: "+token)
	require.NoError(t, harness.WaitHTTP(bearer, "http://"+addr[2]+"/-/ready", time.Minute))

	// All is replaced; the connection that the sidecar has open is of no use.
	p.secure(young, "second-secret")
	rewrite.Transport = &http.Transport{TLSClientConfig: young.client(young), DisableKeepAlives: true}
	token = "token-secret-2"
	replaceFile(t, p.Path("bearer-sidecar.yml"), []byte("bearer_token: "+token))
	rotated := time.Now()
	eventually(t, time.Minute, func() error {
		if issuer, err := handshake(addr[0], young.client(young)); err != nil || issuer != "young" {
			return fmt.Errorf("issuer %q, error %w", issuer, err)
		}
		return nil
	})
	_, err = handshake(addr[0], old.client(young))
	require.Error(t, err, "Prometheus has a new bundle for clients")
	for name, a := range map[string]string{"protected": addr[1], "bearer": addr[2]} {
		eventually(t, time.Minute, func() error {
			last, err := gauge("http://"+a+"/metrics", "hindsight_sidecar_last_heartbeat_success_time_seconds")
			if err == nil && last < float64(rotated.Unix()+2) {
				err = fmt.Errorf("%s: no check since the rotation", name)
			}
			return err
		})
	}
	for _, proc := range []*harness.Process{sidecar, bearer} {
		require.Contains(t, proc.Output(), "connected to prometheus")
		require.NotContains(t, proc.Output(), "-secret")
	}
}

// Two receivers and a querier with TLS and client certificates everywhere: HTTP, gRPC,
// remote write, peers and stores. After a change of authority, new connections use
// the new files only.
func TestCertificates_RotateWithoutRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	host := harness.Host()
	addr, err := harness.Ports(host, 10)
	require.NoError(t, err)
	old, young := newAuthority(t, "old"), newAuthority(t, "young")
	dir := s.Path("tls")
	bundle := func(as ...*authority) {
		var all []byte
		for _, a := range as {
			all = append(all, a.pem...)
		}
		replaceFile(t, dir+"/ca.crt", all)
	}
	bundle(old)
	old.issue(dir, "node")
	replaceFile(t, dir+"/web.yml", []byte("tls_server_config: {cert_file: node.crt, key_file: node.key, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}\n"))
	require.NoError(t, os.WriteFile(s.Path("ring.json"), fmt.Appendf(nil, `[{"endpoints": [%q, %q]}]`, addr[1], addr[4]), 0o600))

	node := func(i int) *harness.Process {
		a := addr[3*i : 3*i+3]
		p, err := harness.Start(s.Dir, fmt.Sprint("node-", i), bin.Hindsight, "receive",
			"--http-address="+a[0], "--http.config="+dir+"/web.yml", "--grpc-address="+a[1], "--remote-write.address="+a[2],
			"--receive.capnproto-address="+addr[8+i], "--tsdb.path="+s.Path(fmt.Sprint("data-", i)), fmt.Sprintf("--label=receive_replica=\"%d\"", i),
			"--receive.hashrings-file="+s.Path("ring.json"), "--receive.local-endpoint="+a[1], "--receive.replication-factor=2",
			"--grpc-server-tls-cert="+dir+"/node.crt", "--grpc-server-tls-key="+dir+"/node.key", "--grpc-server-tls-client-ca="+dir+"/ca.crt",
			"--remote-write.server-tls-cert="+dir+"/node.crt", "--remote-write.server-tls-key="+dir+"/node.key", "--remote-write.server-tls-client-ca="+dir+"/ca.crt",
			"--remote-write.client-tls-secure", "--remote-write.client-tls-cert="+dir+"/node.crt", "--remote-write.client-tls-key="+dir+"/node.key",
			"--remote-write.client-tls-ca="+dir+"/ca.crt", "--remote-write.client-server-name=localhost")
		require.NoError(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the end of the log of node %d:\n%s", i, p.Tail(15))
			}
			p.Kill()
		})
		return p
	}
	node(0)
	second := node(1)
	query, err := harness.Start(s.Dir, "rotating-query", bin.Hindsight, "query", "--http-address="+addr[6], "--grpc-address="+addr[7],
		"--endpoint="+addr[1], "--endpoint="+addr[4], "--query.replica-label=receive_replica",
		"--grpc-client-tls-secure", "--grpc-client-tls-cert="+dir+"/node.crt", "--grpc-client-tls-key="+dir+"/node.key",
		"--grpc-client-tls-ca="+dir+"/ca.crt", "--grpc-client-server-name=localhost")
	require.NoError(t, err)
	t.Cleanup(query.Kill)

	// write needs both nodes, read needs the second one.
	works := func(value float64, client *authority, roots ...*authority) error {
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: client.client(roots...), DisableKeepAlives: true}}
		now := time.Now()
		w := harness.Writer{URL: "https://" + addr[2] + "/api/v1/receive", Client: c}
		if _, err := w.Write([]prompb.TimeSeries{harness.TimeSeries([]prompb.Sample{{Timestamp: now.UnixMilli(), Value: value}}, "__name__", "m")}); err != nil {
			return err
		}
		var stores map[string][]struct{ LastError *string }
		if err := (harness.API{Base: "http://" + addr[6]}).JSON("/api/v1/stores", nil, &stores); err != nil {
			return err
		}
		if len(stores["receive"]) != 2 {
			return fmt.Errorf("stores: %+v", stores)
		}
		got, err := harness.API{Base: "http://" + addr[6]}.Instant("m", now)
		if err != nil {
			return err
		}
		if len(got.Series) != 1 || len(got.Warnings) > 0 || got.Series[0].Samples[0].V != fmt.Sprint(value) {
			return fmt.Errorf("answer: %+v", got)
		}
		return nil
	}
	eventually(t, time.Minute, func() error { return works(1, old, old) })
	for i, a := range addr[:6] {
		issuer, err := handshake(a, old.client(old))
		require.NoError(t, err, i)
		require.Equal(t, "old", issuer)
		_, err = handshake(a, young.client(old))
		require.Error(t, err, "a client of another authority")
	}

	// First all trust both, then have new certificates, then trust the new one only.
	bundle(old, young)
	young.issue(dir, "node")
	require.NoError(t, works(2, young, young))
	bundle(young)
	for i, a := range addr[:6] {
		issuer, err := handshake(a, young.client(young))
		require.NoError(t, err, i)
		require.Equal(t, "young", issuer)
		_, err = handshake(a, old.client(young))
		require.Error(t, err, "a client of the old authority")
	}
	require.NoError(t, works(3, young, young))
	// The clients of the processes that still run connect again.
	require.NoError(t, second.Stop(30*time.Second))
	node(1)
	eventually(t, time.Minute, func() error { return works(4, young, young) })
}

// gauge reads the value of a metric without labels from a page.
func gauge(page, name string) (float64, error) {
	resp, err := http.Get(page)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", page, name)
}
