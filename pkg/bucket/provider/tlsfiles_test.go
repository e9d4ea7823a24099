package provider

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The bundle of authorities is read again, also while the old one would still do: a
// bundle from which the authority is gone refuses the server.
func TestRereadTLS_UsesNewBundleForNewConnections(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write := func(content []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(ca+".new", content, 0o600))
		require.NoError(t, os.Rename(ca+".new", ca))
	}
	write(good)
	section := []byte("bucket: b\nhttp_config: {idle_conn_timeout: 90s, tls_config: {ca_file: " + ca + "}}\n")
	rt, err := rereadTLS(&http.Transport{TLSClientConfig: &tls.Config{}}, section, nil)
	require.NoError(t, err)
	c := http.Client{Transport: rt}
	defer c.CloseIdleConnections()
	get := func() error {
		resp, err := c.Get(srv.URL)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	require.NoError(t, get())
	write(selfSigned(t))
	require.ErrorContains(t, get(), "certificate")
	write(append([]byte{'\n'}, good...))
	require.NoError(t, get())
	plain := &http.Transport{}
	rt, err = rereadTLS(plain, []byte("bucket: b"), nil)
	require.NoError(t, err)
	require.Same(t, plain, rt)
	_, err = rereadTLS(plain, []byte("http_config: {tls_config: {ca_file: /does/not/exist}}"), nil)
	require.ErrorContains(t, err, "/does/not/exist")
}

// selfSigned returns the certificate of another authority.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
