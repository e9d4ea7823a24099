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

// NewServer reads the files; nil when no certificate is named. what names the
// server in log lines.
func NewServer(what string, f ServerFiles, logger *slog.Logger) (*Server, error) {
	if f.Cert == "" && f.Key == "" {
		return nil, nil
	}
	c, err := NewCurrent("TLS files of "+what, logger, f.config)
	if err != nil {
		return nil, err
	}
	return &Server{current: c}, nil
}

// Config returns the configuration of a listener. Each handshake uses the files
// as they are then.
func (s *Server) Config() *tls.Config { return Refreshed(s.current.Get) }

// Reload reads the files now. After an error the last good ones stay in use. A
// nil Server has nothing to read.
func (s *Server) Reload() error {
	if s == nil {
		return nil
	}
	return s.current.Reload()
}

// Refreshed returns a configuration that asks current at each handshake.
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

// config makes a new configuration for each version of the files. It has its own
// ticket keys, so that no session is resumed that an older bundle admitted.
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
	if cfg.CipherSuites, err = CipherSuites(f.Ciphers); err != nil {
		return nil, files, err
	}
	if cfg.CurvePreferences, err = Curves(f.Curves); err != nil {
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
