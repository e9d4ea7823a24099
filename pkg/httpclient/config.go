package httpclient

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Config holds the credentials, TLS files, proxy and connection pool of a client.
type Config struct {
	BasicAuth       BasicAuth       `yaml:"basic_auth"`
	BearerToken     string          `yaml:"bearer_token"`
	BearerTokenFile string          `yaml:"bearer_token_file"`
	ProxyURL        string          `yaml:"proxy_url"`
	TLS             TLSConfig       `yaml:"tls_config"`
	Transport       TransportConfig `yaml:"transport_config"`
	// File is where the configuration is from, or empty. NewRoundTripper reads it again
	// when it changes.
	File string `yaml:"-"`
	// Logger gets a line when TLS files were reloaded or the reload failed; nil logs
	// nothing.
	Logger *slog.Logger `yaml:"-"`
}

// BasicAuth is a user name with a password, given directly or as a file that is
// read again for every request.
type BasicAuth struct {
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
}

// TLSConfig names PEM files, which are read again when they change.
type TLSConfig struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// TransportConfig bounds the connection pool. Zero means no limit, or no
// timeout.
type TransportConfig struct {
	MaxIdleConns          int         `yaml:"max_idle_conns"`
	MaxIdleConnsPerHost   int         `yaml:"max_idle_conns_per_host"`
	IdleConnTimeout       Nanoseconds `yaml:"idle_conn_timeout"`
	ResponseHeaderTimeout Nanoseconds `yaml:"response_header_timeout"`
	ExpectContinueTimeout Nanoseconds `yaml:"expect_continue_timeout"`
	MaxConnsPerHost       int         `yaml:"max_conns_per_host"`
	DisableCompression    bool        `yaml:"disable_compression"`
	TLSHandshakeTimeout   Nanoseconds `yaml:"tls_handshake_timeout"`
	DialerTimeout         Nanoseconds `yaml:"dialer_timeout"`
}

// Nanoseconds is a duration that YAML gives as an integer of nanoseconds; a
// duration with a unit ("10s") is accepted too.
type Nanoseconds time.Duration

// UnmarshalYAML reads either form.
func (n *Nanoseconds) UnmarshalYAML(node *yaml.Node) error {
	var i int64
	if err := node.Decode(&i); err == nil {
		*n = Nanoseconds(i)
		return nil
	}
	d, err := time.ParseDuration(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is neither a number of nanoseconds nor a duration such as 10s", node.Line, node.Value)
	}
	*n = Nanoseconds(d)
	return nil
}

// Default is the configuration when none is given.
func Default() Config {
	return Config{Transport: TransportConfig{
		MaxIdleConns:          100,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       Nanoseconds(90 * time.Second),
		ExpectContinueTimeout: Nanoseconds(10 * time.Second),
		TLSHandshakeTimeout:   Nanoseconds(10 * time.Second),
		DialerTimeout:         Nanoseconds(5 * time.Second),
	}}
}

// Parse reads the YAML over the defaults; unknown keys are errors.
// Empty input gives the defaults.
func Parse(b []byte) (Config, error) {
	cfg := Default()
	if err := flags.DecodeYAML(b, &cfg); err != nil {
		return Config{}, fmt.Errorf("parse HTTP client configuration: %w", err)
	}
	return cfg, cfg.Validate()
}

// Shown returns a URL as errors and logs may show it: without password and parameters,
// which may be secrets.
func Shown(u *url.URL) string {
	shown := *u
	shown.RawQuery, shown.Fragment = "", ""
	return shown.Redacted()
}

// Validate checks the configuration without reading its files.
func (c *Config) Validate() error {
	basic := c.BasicAuth != (BasicAuth{})
	switch {
	case c.BearerToken != "" && c.BearerTokenFile != "":
		return errors.New("HTTP client configuration: bearer_token and bearer_token_file exclude each other")
	case basic && (c.BearerToken != "" || c.BearerTokenFile != ""):
		return errors.New("HTTP client configuration: basic_auth and bearer_token exclude each other")
	case c.BasicAuth.Password != "" && c.BasicAuth.PasswordFile != "":
		return errors.New("HTTP client configuration: basic_auth.password and basic_auth.password_file exclude each other")
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("HTTP client configuration: tls_config needs both cert_file and key_file, or neither")
	}
	if c.ProxyURL != "" {
		if _, err := url.Parse(c.ProxyURL); err != nil {
			// The whole error repeats the URL, which may have a password.
			var ue *url.Error
			if errors.As(err, &ue) {
				err = ue.Err
			}
			return fmt.Errorf("HTTP client configuration: proxy_url: %w", err)
		}
	}
	return nil
}
