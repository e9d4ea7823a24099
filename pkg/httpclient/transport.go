package httpclient

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// NewRoundTripper builds the connection pool with credentials on top. Secrets
// given as files are read for every request; certificates, and the configuration
// itself if it has a file, when they change. http.Client.CloseIdleConnections reaches
// the pool.
func NewRoundTripper(cfg Config, userAgent string) (http.RoundTripper, error) {
	if cfg.File == "" {
		return newPool(cfg, userAgent)
	}
	current, err := tlsconfig.NewCurrent("HTTP client configuration "+cfg.File, cfg.Logger, func() (http.RoundTripper, []string, error) {
		files := []string{cfg.File}
		content, err := os.ReadFile(cfg.File)
		if err != nil {
			return nil, files, err
		}
		next, err := Parse(content)
		if err != nil {
			return nil, files, fmt.Errorf("%s: %w", cfg.File, err)
		}
		next.Logger = cfg.Logger
		rt, err := newPool(next, userAgent)
		return rt, files, err
	})
	if err != nil {
		return nil, err
	}
	return &rereadPool{current: current}, nil
}

// rereadPool is the pool of the newest version of a configuration file.
type rereadPool struct {
	current *tlsconfig.Current[http.RoundTripper]

	mu   sync.Mutex
	last http.RoundTripper
}

func (p *rereadPool) now() http.RoundTripper {
	p.mu.Lock()
	defer p.mu.Unlock()
	rt := p.current.Get()
	if p.last != nil && p.last != rt {
		// Requests that use the old pool finish on it.
		(&http.Client{Transport: p.last}).CloseIdleConnections()
	}
	p.last = rt
	return rt
}

// RoundTrip implements http.RoundTripper.
func (p *rereadPool) RoundTrip(req *http.Request) (*http.Response, error) {
	return p.now().RoundTrip(req)
}

// CloseIdleConnections closes the connections that no request uses.
func (p *rereadPool) CloseIdleConnections() {
	(&http.Client{Transport: p.now()}).CloseIdleConnections()
}

// newPool is NewRoundTripper without the file of the configuration.
func newPool(cfg Config, userAgent string) (http.RoundTripper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := tlsconfig.NewClient("HTTP client", tlsconfig.ClientFiles{
		Cert: cfg.TLS.CertFile, Key: cfg.TLS.KeyFile, CA: cfg.TLS.CAFile, ServerName: cfg.TLS.ServerName,
		SkipVerify: cfg.TLS.InsecureSkipVerify, MinVersion: "1.2",
	}, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("load TLS files: %w", err)
	}
	var proxy func(*http.Request) (*url.URL, error)
	if cfg.ProxyURL != "" {
		u, err := url.Parse(cfg.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("parse proxy_url: %w", err)
		}
		proxy = http.ProxyURL(u)
	}
	rt := client.RoundTripper(func(t *tls.Config) *http.Transport {
		out := transport(cfg, t)
		out.Proxy = proxy
		return out
	})
	return promconfig.NewUserAgentRoundTripper(userAgent, withCredentials(cfg, rt)), nil
}

func transport(cfg Config, tlsConn *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig:       tlsConn,
		DialContext:           (&net.Dialer{Timeout: time.Duration(cfg.Transport.DialerTimeout)}).DialContext,
		MaxIdleConns:          cfg.Transport.MaxIdleConns,
		MaxIdleConnsPerHost:   cfg.Transport.MaxIdleConnsPerHost,
		MaxConnsPerHost:       cfg.Transport.MaxConnsPerHost,
		IdleConnTimeout:       time.Duration(cfg.Transport.IdleConnTimeout),
		ResponseHeaderTimeout: time.Duration(cfg.Transport.ResponseHeaderTimeout),
		ExpectContinueTimeout: time.Duration(cfg.Transport.ExpectContinueTimeout),
		TLSHandshakeTimeout:   time.Duration(cfg.Transport.TLSHandshakeTimeout),
		DisableCompression:    cfg.Transport.DisableCompression,
	}
}

func withCredentials(cfg Config, rt http.RoundTripper) http.RoundTripper {
	secret := func(inline, file string) promconfig.SecretReader {
		if file != "" {
			return promconfig.NewFileSecret(file)
		}
		return promconfig.NewInlineSecret(inline)
	}
	if cfg.BearerToken != "" || cfg.BearerTokenFile != "" {
		return promconfig.NewAuthorizationCredentialsRoundTripper("Bearer", secret(cfg.BearerToken, cfg.BearerTokenFile), rt)
	}
	if cfg.BasicAuth != (BasicAuth{}) {
		return promconfig.NewBasicAuthRoundTripper(
			promconfig.NewInlineSecret(cfg.BasicAuth.Username),
			secret(cfg.BasicAuth.Password, cfg.BasicAuth.PasswordFile), rt)
	}
	return rt
}
