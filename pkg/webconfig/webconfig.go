package webconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/time/rate"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// File is the web configuration file with the TLS files that it names. They are
// read again when they change; an invalid version is logged, and the last good one
// stays in use. A nil File is plain HTTP without authentication. It may be used
// concurrently.
type File struct {
	current *tlsconfig.Current[*state]
	checked checkedPasswords
}

// state is one version of the files.
type state struct {
	config  web.Config
	tls     *tls.Config // nil for plain text
	limiter *rate.Limiter
}

// Open reads the file that a flag names; nil when path is empty. Errors are marked
// flags.Invalid. A nil logger reports no later versions.
func Open(flag, path string, logger *slog.Logger) (*File, error) {
	if path == "" {
		return nil, nil
	}
	c, err := tlsconfig.NewCurrent("web configuration "+path, logger, func() (*state, []string, error) { return read(path) })
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("%s %s: %w", flag, path, err))
	}
	return &File{current: c}, nil
}

// Check checks a web configuration file and the TLS files that it names.
func Check(path string) error {
	_, _, err := read(path)
	return err
}

// read reads and checks the file and the TLS files that it names.
func read(path string) (*state, []string, error) {
	files := []string{path}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, files, err
	}
	s := &state{config: web.Config{
		TLSConfig:  web.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13},
		HTTPConfig: web.HTTPConfig{HTTP2: true},
	}}
	if err := flags.DecodeYAML(content, &s.config); err != nil {
		return nil, files, err
	}
	t := &s.config.TLSConfig
	t.SetDirectory(filepath.Dir(path))
	for _, f := range []string{t.TLSCertPath, t.TLSKeyPath, t.ClientCAs} {
		if f != "" {
			files = append(files, f)
		}
	}
	// Validate checks headers and password hashes, too.
	if err := web.Validate(path); err != nil {
		return nil, files, flags.YAMLError(err)
	}
	if r := s.config.RateLimiterConfig; r.Interval != 0 {
		s.limiter = rate.NewLimiter(rate.Every(r.Interval), r.Burst)
	}
	if t.IsEnabled() {
		if s.tls, err = s.tlsConfig(); err != nil {
			return nil, files, err
		}
	}
	return s, files, nil
}

// tlsConfig returns a configuration that holds the certificate. That of the toolkit
// reads the file at each handshake and fails when it is gone.
func (s *state) tlsConfig() (*tls.Config, error) {
	cfg, err := web.ConfigToTLSConfig(&s.config.TLSConfig)
	if err != nil {
		return nil, err
	}
	cert, err := cfg.GetCertificate(nil)
	if err != nil {
		return nil, err
	}
	if cfg.ClientCAs != nil && cfg.ClientCAs.Equal(x509.NewCertPool()) {
		return nil, errors.New("the bundle of client_ca_file holds no PEM certificate")
	}
	cfg.GetCertificate, cfg.Certificates = nil, []tls.Certificate{*cert}
	cfg.NextProtos = []string{"http/1.1"}
	if s.config.HTTPConfig.HTTP2 {
		cfg.NextProtos = []string{"h2", "http/1.1"}
	}
	return cfg, nil
}

// TLS returns the configuration of a listener; nil for plain text. A reload does not
// switch between TLS and plain text.
func (f *File) TLS() *tls.Config {
	if f == nil {
		return nil
	}
	last := f.current.Get().tls
	if last == nil {
		return nil
	}
	return tlsconfig.Refreshed(func() *tls.Config {
		if s := f.current.Get(); s.tls != nil {
			return s.tls
		}
		return last
	})
}

// VerifiesClients reports whether the file demands certificates of clients and verifies
// them.
func (f *File) VerifiesClients() bool {
	if f == nil {
		return false
	}
	t := f.current.Get().tls
	return t != nil && t.ClientAuth == tls.RequireAndVerifyClientCert
}

// Reload reads the files now. After an error the last good ones stay in use.
func (f *File) Reload() error {
	if f == nil {
		return nil
	}
	return f.current.Reload()
}
