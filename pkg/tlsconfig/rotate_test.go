package tlsconfig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// authority signs certificates for one test.
type authority struct {
	pem  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert: cert, key: key}
}

// issue writes NAME.crt and NAME.key into dir.
func (a *authority) issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{"store.local"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	require.NoError(t, err)
	raw, err := x509.MarshalECPrivateKey(k)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	replace(t, key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
	replace(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return cert, key
}

// replace writes a file as rotation tools do: by renaming, so that it is another
// file even within one tick of the file system's clock.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", content, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// greet does a handshake and reads a byte, which proves that the server has accepted
// the certificate of the client.
func greet(addr string, cfg *tls.Config) error {
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func listen(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("x"))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = lis.Close(); <-done })
	return lis.Addr().String()
}

func TestServer_ReadsCertificateAndClientBundleAgain(t *testing.T) {
	dir := t.TempDir()
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	cert, key := first.issue(t, dir, "server")
	bundle := filepath.Join(dir, "clients.pem")
	replace(t, bundle, first.pem)
	var log bytes.Buffer
	s, err := NewServer("the test", ServerFiles{Cert: cert, Key: key, ClientCA: bundle}, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	addr := listen(t, s.Config())

	roots := x509.NewCertPool()
	roots.AddCert(first.cert)
	roots.AddCert(second.cert)
	client := func(a *authority, name string) *tls.Config {
		c, k := a.issue(t, dir, name)
		pair, err := tls.LoadX509KeyPair(c, k)
		require.NoError(t, err)
		return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	}
	old, young := client(first, "old"), client(second, "young")
	require.NoError(t, greet(addr, old))
	require.Error(t, greet(addr, young), "its authority is not in the bundle yet")

	replace(t, bundle, append(bytes.Clone(first.pem), second.pem...))
	require.NoError(t, greet(addr, young))
	second.issue(t, dir, "server")
	require.NoError(t, greet(addr, old))

	replace(t, bundle, second.pem)
	require.NoError(t, greet(addr, young))
	require.Error(t, greet(addr, old), "removed from the bundle, also for resumed sessions")

	require.NoError(t, os.Remove(bundle))
	require.NoError(t, greet(addr, young), "the last good files stay in use")
	require.NoError(t, greet(addr, young))
	require.Equal(t, 1, strings.Count(log.String(), "file reload failed"), log.String())
	require.ErrorContains(t, s.Reload(), bundle)
	replace(t, bundle, second.pem)
	require.NoError(t, s.Reload())

	// A certificate without its key, in the middle of a rotation.
	replace(t, cert, second.pem)
	require.NoError(t, greet(addr, young))
}

func TestClient_GRPCReadsBundleAgain(t *testing.T) {
	dir := t.TempDir()
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	cert, key := first.issue(t, dir, "server")
	server, err := NewServer("the test", ServerFiles{Cert: cert, Key: key, Protocols: []string{"h2"}}, nil)
	require.NoError(t, err)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(server.Config())))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	t.Cleanup(func() { srv.Stop(); <-done })

	for _, name := range []string{"", "store.local"} {
		bundle := filepath.Join(dir, "trust"+name+".pem")
		replace(t, bundle, first.pem)
		first.issue(t, dir, "server")
		c, err := NewClient("the test", ClientFiles{CA: bundle, ServerName: name}, nil)
		require.NoError(t, err)
		check := func() error {
			conn, err := grpc.NewClient("passthrough:///"+lis.Addr().String(), grpc.WithTransportCredentials(c.Credentials()))
			require.NoError(t, err)
			defer conn.Close()
			_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
			return err
		}
		require.NoError(t, check())
		second.issue(t, dir, "server")
		require.ErrorContains(t, check(), "unknown authority")
		replace(t, bundle, append(bytes.Clone(first.pem), second.pem...))
		require.NoError(t, check())
		require.NoError(t, os.Remove(bundle))
		require.NoError(t, check(), "the last good bundle stays in use")
	}
}

func TestClient_HTTPReadsBundleAgain(t *testing.T) {
	dir := t.TempDir()
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	cert, key := first.issue(t, dir, "server")
	server, err := NewServer("the test", ServerFiles{Cert: cert, Key: key}, nil)
	require.NoError(t, err)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{TLSConfig: server.Config(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.ServeTLS(lis, "", "") }()
	t.Cleanup(func() { _ = srv.Close(); <-done })

	bundle := filepath.Join(dir, "trust.pem")
	replace(t, bundle, first.pem)
	c, err := NewClient("the test", ClientFiles{CA: bundle}, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: c.RoundTripper(func(cfg *tls.Config) *http.Transport {
		return &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	})}
	get := func() error {
		resp, err := client.Get("https://" + lis.Addr().String())
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	require.NoError(t, get())
	second.issue(t, dir, "server")
	require.ErrorContains(t, get(), "unknown authority")
	replace(t, bundle, second.pem)
	require.NoError(t, get())
	require.NoError(t, os.Remove(bundle))
	require.NoError(t, get())
}

func TestNames_RefusesUnknownAndInsecureOnes(t *testing.T) {
	_, err := Version("1.4")
	require.ErrorContains(t, err, "1.4")
	_, err = cipherSuites([]string{"TLS_RSA_WITH_RC4_128_SHA"})
	require.ErrorContains(t, err, "not secure")
	ids, err := cipherSuites([]string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"})
	require.NoError(t, err)
	require.Equal(t, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, ids)
	_, err = curves([]string{"P256"})
	require.ErrorContains(t, err, "P256")
}

// A rotation of the certificate of a client is used without a restart, and a
// rotation that has written only the certificate keeps the last good pair.
func TestClient_ReadsItsCertificateAgain(t *testing.T) {
	dir := t.TempDir()
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	cert, key := first.issue(t, dir, "server")
	clients := filepath.Join(dir, "clients.pem")
	replace(t, clients, second.pem)
	server, err := NewServer("the test", ServerFiles{Cert: cert, Key: key, ClientCA: clients}, nil)
	require.NoError(t, err)
	addr := listen(t, server.Config())

	bundle := filepath.Join(dir, "servers.pem")
	replace(t, bundle, first.pem)
	own, ownKey := first.issue(t, dir, "client")
	c, err := NewClient("the test", ClientFiles{Cert: own, Key: ownKey, CA: bundle, ServerName: "store.local"}, nil)
	require.NoError(t, err)
	require.Error(t, greet(addr, c.current.Get()), "the server does not know the authority of the client")
	second.issue(t, dir, "client")
	require.NoError(t, greet(addr, c.current.Get()))

	replace(t, own, first.pem)
	require.NoError(t, greet(addr, c.current.Get()), "the certificate has no key yet")
	require.NoError(t, os.Remove(own))
	require.NoError(t, greet(addr, c.current.Get()), "the certificate is gone")
	require.Error(t, c.Reload())
}

func TestClient_NilIsPlainText(t *testing.T) {
	var c *Client
	require.Equal(t, "insecure", c.Credentials().Info().SecurityProtocol)
}
