package receive

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ServerTLS names the files of the remote write server.
type ServerTLS struct {
	Cert, Key, ClientCA, MinVersion string
	Ciphers, Curves                 []string
}

func (t *ServerTLS) validate() error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("--remote-write.server-tls-cert and --remote-write.server-tls-key must be given together")
	}
	if t.ClientCA != "" && t.Cert == "" {
		return errors.New("--remote-write.server-tls-client-ca needs --remote-write.server-tls-cert and --remote-write.server-tls-key")
	}
	return nil
}

// config returns nil for plain text.
func (t *ServerTLS) config() (*tls.Config, error) {
	if t.Cert == "" {
		return nil, nil
	}
	pair := &keyPair{cert: t.Cert, key: t.Key}
	if _, err := pair.get(); err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get() },
		MinVersion:     tlsVersion(t.MinVersion),
		NextProtos:     []string{"h2", "http/1.1"},
	}
	for _, name := range t.Ciphers {
		id, ok := cipherSuite(name)
		if !ok {
			return nil, fmt.Errorf("unknown cipher suite %q", name)
		}
		cfg.CipherSuites = append(cfg.CipherSuites, id)
	}
	for _, name := range t.Curves {
		id, ok := curve(name)
		if !ok {
			return nil, fmt.Errorf("unknown key exchange group %q", name)
		}
		cfg.CurvePreferences = append(cfg.CurvePreferences, id)
	}
	if t.ClientCA != "" {
		pool, err := readCA(t.ClientCA)
		if err != nil {
			return nil, err
		}
		cfg.ClientCAs, cfg.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// ClientTLS is how peers are connected to.
type ClientTLS struct {
	Cert, Key, CA, ServerName, MinVersion string
	Secure, SkipVerify                    bool
}

func (t *ClientTLS) credentials() (credentials.TransportCredentials, error) {
	if !t.Secure {
		return insecure.NewCredentials(), nil
	}
	cfg := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.SkipVerify, MinVersion: tlsVersion(t.MinVersion)}
	if t.CA != "" {
		pool, err := readCA(t.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("--remote-write.client-tls-cert and --remote-write.client-tls-key must be given together")
	}
	if t.Cert != "" {
		pair := &keyPair{cert: t.Cert, key: t.Key}
		if _, err := pair.get(); err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get() }
	}
	return credentials.NewTLS(cfg), nil
}

func readCA(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the CA file %s holds no PEM certificate", path)
	}
	return pool, nil
}

func tlsVersion(s string) uint16 {
	switch s {
	case "1.0":
		return tls.VersionTLS10
	case "1.1":
		return tls.VersionTLS11
	case "1.2":
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

func cipherSuite(name string) (uint16, bool) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.Name == name {
			return s.ID, true
		}
	}
	return 0, false
}

func curve(name string) (tls.CurveID, bool) {
	for _, c := range []tls.CurveID{
		tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519, tls.X25519MLKEM768,
		tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
	} {
		if c.String() == name {
			return c, true
		}
	}
	return 0, false
}

// keyPair reads certificate and key again when a file's time has changed.
type keyPair struct {
	cert, key string

	mu       sync.Mutex
	loaded   *tls.Certificate
	modified [2]time.Time
}

func (p *keyPair) get() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var modified [2]time.Time
	for i, path := range []string{p.cert, p.key} {
		st, err := os.Stat(path)
		if err != nil {
			return p.keep(fmt.Errorf("look at the TLS file: %w", err))
		}
		modified[i] = st.ModTime()
	}
	if p.loaded != nil && modified == p.modified {
		return p.loaded, nil
	}
	c, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return p.keep(fmt.Errorf("load the TLS certificate %s: %w", p.cert, err))
	}
	p.loaded, p.modified = &c, modified
	return p.loaded, nil
}

// keep goes on with the last good pair while the files are being replaced.
func (p *keyPair) keep(err error) (*tls.Certificate, error) {
	if p.loaded != nil {
		return p.loaded, nil
	}
	return nil, err
}
