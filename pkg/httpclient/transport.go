package httpclient

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	promconfig "github.com/prometheus/common/config"
)

// NewRoundTripper builds the connection pool with credentials on top. Secrets
// given as files are read for every request, certificates when they change.
// http.Client.CloseIdleConnections reaches the pool.
func NewRoundTripper(cfg Config, userAgent string) (http.RoundTripper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	tlsCfg := promconfig.TLSConfig{
		CAFile:             cfg.TLS.CAFile,
		CertFile:           cfg.TLS.CertFile,
		KeyFile:            cfg.TLS.KeyFile,
		ServerName:         cfg.TLS.ServerName,
		InsecureSkipVerify: cfg.TLS.InsecureSkipVerify,
	}
	tlsConn, err := promconfig.NewTLSConfig(&tlsCfg)
	if err != nil {
		return nil, fmt.Errorf("load TLS files: %w", err)
	}
	newTransport := func(t *tls.Config) (http.RoundTripper, error) { return transport(cfg, t) }

	rt, err := newTransport(tlsConn)
	if err != nil {
		return nil, err
	}
	if cfg.TLS.CAFile != "" {
		settings := promconfig.TLSRoundTripperSettings{CA: promconfig.NewFileSecret(cfg.TLS.CAFile)}
		if cfg.TLS.CertFile != "" {
			settings.Cert = promconfig.NewFileSecret(cfg.TLS.CertFile)
			settings.Key = promconfig.NewFileSecret(cfg.TLS.KeyFile)
		}
		if rt, err = promconfig.NewTLSRoundTripper(tlsConn, settings, newTransport); err != nil {
			return nil, fmt.Errorf("load TLS files: %w", err)
		}
	}
	return promconfig.NewUserAgentRoundTripper(userAgent, withCredentials(cfg, rt)), nil
}

func transport(cfg Config, tlsConn *tls.Config) (*http.Transport, error) {
	t := &http.Transport{
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
	if cfg.ProxyURL != "" {
		u, err := url.Parse(cfg.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("parse proxy_url: %w", err)
		}
		t.Proxy = http.ProxyURL(u)
	}
	return t, nil
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
