package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
)

// ServerFiles names the files and bounds of a TLS server.
type ServerFiles struct {
	Cert, Key string
	// ClientCA is the bundle that certificates of clients are verified with.
	// With one, clients must have a certificate.
	ClientCA        string
	MinVersion      string
	Ciphers, Curves []string
	// Protocols are offered by ALPN, the preferred one first.
	Protocols []string
}

// Server is the TLS side of a listener.
type Server struct {
	current *Current[*tls.Config]
}

// NewServer reads the files; nil when no certificate is named. component names the
// server in log lines.
func NewServer(component string, f ServerFiles, logger *slog.Logger) (*Server, error) {
	if f.Cert == "" && f.Key == "" {
		return nil, nil
	}
	c, err := NewCurrent(component, logger, f.config)
	if err != nil {
		return nil, err
	}
	return &Server{current: c}, nil
}

// Config returns the configuration of a listener. Each handshake uses the newest
// version of the files.
func (s *Server) Config() *tls.Config { return Refreshed(s.current.Get) }

// Reload reads the files. After an error the last good ones stay in use. A nil Server
// has no files.
func (s *Server) Reload() error {
	if s == nil {
		return nil
	}
	return s.current.Reload()
}

// Refreshed returns a configuration that calls current at each handshake.
func Refreshed(current func() *tls.Config) *tls.Config {
	first := current()
	return &tls.Config{
		NextProtos: first.NextProtos,
		MinVersion: first.MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return current(), nil
		},
	}
}

// config makes a new configuration for each version of the files. Each has its own
// ticket keys, so that a session that an older bundle admitted is not resumed.
func (f ServerFiles) config() (*tls.Config, []string, error) {
	files := []string{f.Cert, f.Key}
	if f.ClientCA != "" {
		files = append(files, f.ClientCA)
	}
	cert, err := loadPair(f.Cert, f.Key)
	if err != nil {
		return nil, files, err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: f.Protocols}
	if cfg.MinVersion, err = Version(f.MinVersion); err != nil {
		return nil, files, err
	}
	if cfg.CipherSuites, err = cipherSuites(f.Ciphers); err != nil {
		return nil, files, err
	}
	if cfg.CurvePreferences, err = curves(f.Curves); err != nil {
		return nil, files, err
	}
	if f.ClientCA != "" {
		if cfg.ClientCAs, err = loadBundle(f.ClientCA); err != nil {
			return nil, files, err
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, files, nil
}

func loadPair(cert, key string) (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return c, fmt.Errorf("load TLS certificate %s with key %s: %w", cert, key, err)
	}
	return c, nil
}

func loadBundle(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the CA bundle: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the CA bundle %s holds no PEM certificate", path)
	}
	return pool, nil
}
