package receive

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"capnproto.org/go/capnp/v3/rpc"
	"capnproto.org/go/capnp/v3/rpc/transport"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hindsight-io/hindsight/pkg/receive/capnpserver"
	"github.com/hindsight-io/hindsight/pkg/receive/capnpserver/capnpb"
	"github.com/hindsight-io/hindsight/pkg/tenant"
	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	n    int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), n: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.key = key
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	require.NoError(a.t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue writes NAME.pem and NAME.key and returns the pair.
func (a *authority) issue(name string, subject pkix.Name) tls.Certificate {
	a.n++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: subject, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	rawKey, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	a.write(name+".pem", "CERTIFICATE", der)
	a.write(name+".key", "EC PRIVATE KEY", rawKey)
	pair, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+".key"))
	require.NoError(a.t, err)
	return pair
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// server is a node whose write endpoint wants client certificates.
func (a *authority) server(change func(*Config)) *member {
	a.issue("server", pkix.Name{CommonName: "first"})
	cfg := DefaultConfig()
	cfg.ServerTLS = ServerTLS{Cert: a.path("server.pem"), Key: a.path("server.key"), ClientCA: a.path("ca.pem"), MinVersion: "1.3"}
	if change != nil {
		change(&cfg)
	}
	return start(a.t, cfg, listen(a.t), nil)
}

// send posts one sample with the client's certificates; err is of the connection.
func send(t *testing.T, m *member, c *tls.Config, header ...string) (code int, body string, server *x509.Certificate, err error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("https://%s/api/v1/receive", m.RemoteWriteAddr()),
		bytes.NewReader(v1(t, time.Now().UnixMilli(), "x")))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text), resp.TLS.PeerCertificates[0], nil
}

func TestTenantFromCertificate_TakesConfiguredField(t *testing.T) {
	for field, subject := range map[string]pkix.Name{
		"organization":       {Organization: []string{"team-o"}, CommonName: "wrong"},
		"organizationalUnit": {OrganizationalUnit: []string{"team-u"}, CommonName: "wrong"},
		"commonName":         {CommonName: "team-c", Organization: []string{"wrong"}},
	} {
		t.Run(field, func(t *testing.T) {
			a := newAuthority(t)
			m := a.server(func(c *Config) { c.TenantCertField = field })
			with := func(name pkix.Name) *tls.Config {
				return &tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{a.issue("client", name)}}
			}
			code, text, _, err := send(t, m, with(subject), "THANOS-TENANT", "from-header")
			require.NoError(t, err)
			require.Equal(t, 200, code, text)
			want := map[string]string{"organization": "team-o", "organizationalUnit": "team-u", "commonName": "team-c"}[field]
			require.Equal(t, map[string]int{want + "/x": 1}, series(t, m.Store()), "the header does not count")

			code, text, _, err = send(t, m, with(pkix.Name{SerialNumber: "1"}))
			require.NoError(t, err)
			require.Equal(t, 400, code)
			require.Contains(t, text, "the client certificate has no field "+field)
			code, _, _, err = send(t, m, with(pkix.Name{CommonName: "../up", Organization: []string{"../up"}, OrganizationalUnit: []string{"../up"}}))
			require.NoError(t, err)
			require.Equal(t, 400, code)

			_, _, _, err = send(t, m, &tls.Config{RootCAs: a.pool()})
			require.Error(t, err, "no certificate")
			stranger := newAuthority(t)
			_, _, _, err = send(t, m, &tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{stranger.issue("client", subject)}})
			require.Error(t, err, "a certificate of another authority")
			_, _, _, err = send(t, m, &tls.Config{RootCAs: stranger.pool(), Certificates: with(subject).Certificates})
			require.ErrorContains(t, err, "unknown authority")
			require.Len(t, series(t, m.Store()), 1)
		})
	}
}

func TestTenantFromCertificate_NeedsClientCertificates(t *testing.T) {
	cfg := DefaultConfig()
	cfg.TenantCertField = "commonName"
	require.ErrorContains(t, cfg.Validate(), "--remote-write.server-tls-client-ca")
}

// The configured header takes precedence, then that of Thanos, then that of Cortex.
func TestTenantHeaders_ConfiguredTakesPrecedence(t *testing.T) {
	cfg := DefaultConfig()
	cfg.TenantHeader, cfg.DefaultTenant, cfg.SplitTenantLabel = "X-Team", "nobody", "job"
	m := start(t, cfg, listen(t), nil)
	all := []string{"X-Team", "team", tenant.Header, "thanos", tenant.OrgHeader, "org"}
	for from, want := range map[int]string{0: "team", 2: "thanos", 4: "org", 6: "nobody"} {
		req, err := http.NewRequest(http.MethodPost, m.url("/"), nil)
		require.NoError(t, err)
		for i := from; i < len(all); i += 2 {
			req.Header.Set(all[i], all[i+1])
		}
		id, err := tenant.FromHTTP(req, m.tenants)
		require.NoError(t, err)
		require.Equal(t, want, id)
	}
	// A label of the series stands above them all.
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "x"), all...).code)
	require.Equal(t, map[string]int{"j/x": 1}, series(t, m.Store()))
	bad := post(t, m.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "x"), "X-Team", "a/b")
	require.Equal(t, 400, bad.code, bad.body)
}

// A renewed certificate is used without a restart; while its files are half
// written the old one stays.
func TestServerCertificate_IsReloaded(t *testing.T) {
	a := newAuthority(t)
	m := a.server(nil)
	client := &tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{a.issue("client", pkix.Name{CommonName: "c"})}}
	serving := func() string {
		code, text, cert, err := send(t, m, client)
		require.NoError(t, err)
		require.Equal(t, 200, code, text)
		return cert.Subject.CommonName
	}
	later := func(n int) {
		for _, f := range []string{"server.pem", "server.key"} {
			at := time.Now().Add(time.Duration(n) * time.Second)
			require.NoError(t, os.Chtimes(a.path(f), at, at))
		}
	}
	require.Equal(t, "first", serving())
	require.NoError(t, os.WriteFile(a.path("server.pem"), []byte("half"), 0o600))
	later(1)
	require.Equal(t, "first", serving())
	a.issue("server", pkix.Name{CommonName: "second"})
	later(2)
	require.Equal(t, "second", serving())
	require.NoError(t, os.Remove(a.path("server.key")))
	require.Equal(t, "second", serving())
}

func TestPeers_VerifyCertificates(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	pair := a.issue("peer", pkix.Name{CommonName: "peer"})
	first, second := listen(t), listen(t)
	b := startWith(t, DefaultConfig(), second, Deps{}, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool(),
	})))
	cfg := DefaultConfig()
	cfg.Hashrings = ringOf(second)
	cfg.ClientTLS = ClientTLS{Secure: true, CA: a.path("ca.pem"), Cert: a.path("peer.pem"), Key: a.path("peer.key"), MinVersion: "1.3"}
	router := start(t, cfg, first, nil)
	require.Equal(t, 200, post(t, router.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "x")).code)
	require.Len(t, series(t, b.Store()), 1)

	cfg.ClientTLS.CA = stranger.path("ca.pem")
	cfg.TSDB.Path = t.TempDir()
	refusing := start(t, cfg, listen(t), nil)
	got := post(t, refusing.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "x"))
	require.Equal(t, 503, got.code)
	require.Contains(t, got.body, "unknown authority")
}

func TestConfig_WebConfigurationAndFlagsGiveTLSOnce(t *testing.T) {
	dir := t.TempDir()
	web := filepath.Join(dir, "web.yml")
	cfg := DefaultConfig()
	cfg.RemoteWriteConfigFile = web
	require.ErrorContains(t, cfg.Validate(), "--remote-write.http-config "+web)
	require.NoError(t, os.WriteFile(web, []byte("basic_auth_users: {}\n"), 0o600))
	require.NoError(t, cfg.Validate())
	cfg.TenantCertField = "commonName"
	require.ErrorContains(t, cfg.Validate(), "--receive.tenant-certificate-field needs")

	a := newAuthority(t)
	a.issue("server", pkix.Name{})
	require.NoError(t, os.WriteFile(web, fmt.Appendf(nil, "tls_server_config: {cert_file: %q, key_file: %q, client_ca_file: %q, client_auth_type: RequireAndVerifyClientCert}\n",
		a.path("server.pem"), a.path("server.key"), a.path("ca.pem")), 0o600))
	require.NoError(t, cfg.Validate())
	cfg.ServerTLS.Cert, cfg.ServerTLS.Key = a.path("server.pem"), a.path("server.key")
	require.ErrorContains(t, cfg.Validate(), "use one of them")
}

// Cap'n Proto has the TLS of the gRPC server, also on the default address, unless the
// configuration asks for plain text; then only on a given address.
func TestCapnProto_HasTheTLSOfGRPC(t *testing.T) {
	a := newAuthority(t)
	pair := a.issue("node", pkix.Name{CommonName: "node"})
	files := tlsconfig.ServerFiles{Cert: a.path("node.pem"), Key: a.path("node.key"), ClientCA: a.path("ca.pem")}
	server, err := tlsconfig.NewServer("Cap'n Proto server", files, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for _, c := range []struct {
		name             string
		tls              *tlsconfig.Server
		plain, byDefault bool
		want             string
	}{
		{"TLS", server, false, false, "tls"},
		{"TLS, mixed ring", server, true, false, "plain"},
		{"TLS, mixed ring on the default address", server, true, true, "none"},
		{"passwords only", nil, false, true, "none"},
		{"passwords only, on a given address", nil, false, false, "plain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Receive{cfg: Config{CapnProtoAddress: "127.0.0.1:0", CapnProtoPlain: c.plain}, capnpTLS: c.tls, protected: true, logger: slog.New(slog.DiscardHandler)}
			if c.byDefault {
				r.cfg.CapnProtoAddress = defaultCapnProtoAddress
			}
			lis, err := r.listenCapnp()
			require.NoError(t, err)
			if c.want == "none" {
				require.Nil(t, lis)
				return
			}
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- capnpserver.New(nil, 1<<20, r.logger).Serve(ctx, lis) }()
			defer func() {
				stop()
				require.NoError(t, <-served)
			}()
			write := func(conn net.Conn) error {
				c := rpc.NewConn(transport.NewPackedStream(conn), nil)
				defer c.Close()
				w := capnpb.Writer(c.Bootstrap(t.Context()))
				defer w.Release()
				future, release := w.Write(t.Context(), func(p capnpb.Writer_write_Params) error {
					_, err := p.NewWr()
					return err
				})
				defer release()
				_, err := future.Struct()
				return err
			}
			dial := func(cfg *tls.Config) error {
				conn, err := net.Dial("tcp", lis.Addr().String())
				require.NoError(t, err)
				if cfg != nil {
					return write(tls.Client(conn, cfg))
				}
				return write(conn)
			}
			known := &tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{pair}, ServerName: "127.0.0.1"}
			none := known.Clone()
			none.Certificates = nil
			if c.want == "plain" {
				require.NoError(t, dial(nil))
				return
			}
			require.NoError(t, dial(known))
			require.Error(t, dial(none), "a client without a certificate")
			require.Error(t, dial(nil), "plain text")
		})
	}
}
