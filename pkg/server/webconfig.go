package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// webFile is the web configuration file with the TLS files that it names. They are
// read again when they change; an invalid version is logged, and the last good one
// stays in use. A nil webFile is plain HTTP without authentication.
type webFile struct {
	current *tlsconfig.Current[*webState]

	mu      sync.Mutex        // one bcrypt at a time: each takes a core for long
	checked map[[32]byte]bool // whether a user's password is right, by a hash of both
}

// webState is one version of the files.
type webState struct {
	config  web.Config
	tls     *tls.Config // nil for plain text
	limiter *rate.Limiter
}

func openWebFile(path string, logger *slog.Logger) (*webFile, error) {
	if path == "" {
		return nil, nil
	}
	c, err := tlsconfig.NewCurrent("web configuration "+path, logger, func() (*webState, []string, error) { return readWebFile(path) })
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("--http.config %s: %w", path, err))
	}
	return &webFile{current: c, checked: map[[32]byte]bool{}}, nil
}

// CheckWebFile checks a web configuration file and the TLS files that it names.
func CheckWebFile(path string) error {
	_, _, err := readWebFile(path)
	return err
}

// readWebFile reads and checks the file and the TLS files that it names.
func readWebFile(path string) (*webState, []string, error) {
	files := []string{path}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, files, err
	}
	s := &webState{config: web.Config{
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
func (s *webState) tlsConfig() (*tls.Config, error) {
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

// tlsConfig returns the configuration of the listener; nil for plain text. A reload
// does not switch between TLS and plain text.
func (f *webFile) tlsConfig() *tls.Config {
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

// reload reads the files now.
func (f *webFile) reload() error {
	if f == nil {
		return nil
	}
	return f.current.Reload()
}

// guard admits requests with a known user and password, where users are
// configured, and sets the configured headers.
func (f *webFile) guard(next http.Handler) http.Handler {
	if f == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := f.current.Get()
		if s.limiter != nil && !s.limiter.Allow() {
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		for k, v := range s.config.HTTPConfig.Header {
			w.Header().Set(k, v)
		}
		if len(s.config.Users) > 0 && !f.admits(s, r) {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// maxChecked bounds the cached results of password checks.
const maxChecked = 256

// unknownUser is the hash that the passwords of unknown users are compared with, so
// that the time of an answer does not reveal the names of users.
const unknownUser = "$2a$10$7EqJtq98hPqEX7fNZaFWoOa8h8YQkUe3bWq5m0jMmF7V7mZ1Jq3nK"

func (f *webFile) admits(s *webState, r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	if !ok {
		return false
	}
	hash, known := s.config.Users[user]
	if !known {
		hash = unknownUser
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", user, string(hash), password))
	f.mu.Lock()
	defer f.mu.Unlock()
	right, seen := f.checked[key]
	if !seen {
		right = bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil && known
		if len(f.checked) >= maxChecked {
			clear(f.checked)
		}
		f.checked[key] = right
	}
	return right
}
