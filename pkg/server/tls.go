package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSFiles names the files and limits of a TLS server.
type TLSFiles struct {
	Cert, Key, ClientCA, MinVersion string
	Ciphers, Curves                 []string
}

// ServerTLS makes the TLS configuration of a server; nil when no certificate is
// named. Certificate and key are read again when their files change.
func ServerTLS(f TLSFiles) (*tls.Config, error) {
	if f.Cert == "" && f.Key == "" {
		return nil, nil
	}
	pair := &keyPair{cert: f.Cert, key: f.Key}
	if _, err := pair.get(nil); err != nil {
		return nil, err
	}
	minVersion, err := tlsVersion(f.MinVersion)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{GetCertificate: pair.get, MinVersion: minVersion, NextProtos: []string{"h2"}}
	if cfg.CipherSuites, err = cipherSuites(f.Ciphers); err != nil {
		return nil, err
	}
	if cfg.CurvePreferences, err = curves(f.Curves); err != nil {
		return nil, err
	}
	if f.ClientCA != "" {
		pem, err := os.ReadFile(f.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("read the CA of client certificates: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the CA file %s holds no PEM certificate", f.ClientCA)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// keyPair reads a certificate and key again when either file's time changes.
type keyPair struct {
	cert, key string

	mu       sync.Mutex
	loaded   *tls.Certificate
	modified [2]time.Time
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now [2]time.Time
	for i, file := range []string{p.cert, p.key} {
		st, err := os.Stat(file)
		if err != nil {
			return nil, fmt.Errorf("read the TLS certificate or key: %w", err)
		}
		now[i] = st.ModTime()
	}
	if p.loaded != nil && now == p.modified {
		return p.loaded, nil
	}
	c, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		// While a certificate is being replaced its two files may not fit; the
		// one in use stays until they do.
		if p.loaded != nil {
			return p.loaded, nil
		}
		return nil, fmt.Errorf("load TLS certificate %s with key %s: %w", p.cert, p.key, err)
	}
	p.loaded, p.modified = &c, now
	return p.loaded, nil
}

func tlsVersion(v string) (uint16, error) {
	switch v {
	case "1.0":
		return tls.VersionTLS10, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3", "":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("TLS version %q is none of 1.0, 1.1, 1.2, 1.3", v)
}

func cipherSuites(names []string) ([]uint16, error) {
	var out []uint16
	var errs []error
	for _, n := range names {
		found := false
		for _, s := range tls.CipherSuites() {
			if s.Name == n {
				out, found = append(out, s.ID), true
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("cipher suite %q is not known or not safe", n))
		}
	}
	return out, errors.Join(errs...)
}

func curves(names []string) ([]tls.CurveID, error) {
	known := map[string]tls.CurveID{
		"CurveP256": tls.CurveP256, "CurveP384": tls.CurveP384, "CurveP521": tls.CurveP521, "X25519": tls.X25519,
		"X25519MLKEM768": tls.X25519MLKEM768, "SecP256r1MLKEM768": tls.SecP256r1MLKEM768,
		"SecP384r1MLKEM1024": tls.SecP384r1MLKEM1024,
	}
	var out []tls.CurveID
	for _, n := range names {
		id, ok := known[n]
		if !ok {
			return nil, fmt.Errorf("key exchange group %q is not known", n)
		}
		out = append(out, id)
	}
	return out, nil
}
