package httpclient

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// NewRoundTripper builds the connection pool with credentials on top. Secrets
// given as files are read for every request, certificates when they change.
// http.Client.CloseIdleConnections reaches the pool.
func NewRoundTripper(cfg Config, userAgent string) (http.RoundTripper, error) {
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
