package endpoint

import (
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/credentials"

	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// Spec is one configured endpoint. Its address may stand for many.
type Spec struct {
	// Address is host:port, or a name with a lookup type in front.
	Address string
	// Strict endpoints are those that requests must not lack.
	Strict bool
	// Group makes the address one logical store: all addresses of the name are
	// queried in turn.
	Group bool
	// ServiceConfig is the gRPC service config of a group, JSON, or empty for
	// round robin.
	ServiceConfig string
	// Client configures the connection; nil means the defaults.
	Client *ClientConfig
}

// Validate returns an error for an invalid spec.
func (s Spec) Validate() error {
	kind, _, err := splitAddress(s.Address)
	if err != nil {
		return err
	}
	if s.Strict && kind != lookupNone {
		return fmt.Errorf("strict endpoint %q must not be found by discovery: take off %q, or make it not strict", s.Address, string(kind)+"+")
	}
	if s.ServiceConfig != "" && !s.Group {
		return fmt.Errorf("endpoint %q has a service_config, which only groups may have", s.Address)
	}
	return s.Client.Validate()
}

// ClientConfig says how to connect.
type ClientConfig struct {
	TLS         TLSConfig `yaml:"tls_config"`
	ServerName  string    `yaml:"server_name"`
	Compression string    `yaml:"compression"`
}

// TLSConfig are the settings of TLS on the client side.
type TLSConfig struct {
	Enabled            *bool  `yaml:"enabled"`
	InsecureSkipVerify *bool  `yaml:"insecure_skip_verify"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	CAFile             string `yaml:"ca_file"`
	MinVersion         string `yaml:"min_version"`
}

// Validate returns an error for invalid settings. A nil config is valid.
func (c *ClientConfig) Validate() error {
	if c == nil {
		return nil
	}
	switch c.Compression {
	case "", CompressionNone, grpcsnappy.Name:
	default:
		return fmt.Errorf("compression %q is not known (choose none or snappy)", c.Compression)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return errors.New("a TLS client certificate needs both cert_file and key_file")
	}
	_, err := tlsconfig.Version(c.TLS.MinVersion)
	return err
}

// CompressionNone is the compression that compresses nothing; the other one is
// grpcsnappy.Name.
const CompressionNone = "none"

// isSet reports whether any TLS field was given.
func (t TLSConfig) isSet() bool { return t != TLSConfig{} }

// on reports whether TLS is used.
func (t TLSConfig) on() bool {
	if t.Enabled != nil {
		return *t.Enabled
	}
	return t.InsecureSkipVerify != nil || t.CertFile != "" || t.KeyFile != "" || t.CAFile != ""
}

// credentials returns the credentials of the connections to a store.
func (c *ClientConfig) credentials(address string, logger *slog.Logger) (credentials.TransportCredentials, error) {
	if !c.TLS.on() {
		return (*tlsconfig.Client)(nil).Credentials(), nil
	}
	client, err := tlsconfig.NewClient("store "+address, tlsconfig.ClientFiles{
		Cert: c.TLS.CertFile, Key: c.TLS.KeyFile, CA: c.TLS.CAFile, ServerName: c.ServerName, MinVersion: c.TLS.MinVersion,
		SkipVerify: c.TLS.InsecureSkipVerify != nil && *c.TLS.InsecureSkipVerify,
	}, logger)
	if err != nil {
		return nil, err
	}
	return client.Credentials(), nil
}

// resolved is the client config of an endpoint: its own, completed by the
// defaults. One without any TLS field takes those of the defaults.
func (c *ClientConfig) resolved(def ClientConfig) ClientConfig {
	if c == nil {
		return def
	}
	if !c.TLS.isSet() {
		out := def
		if c.ServerName != "" {
			out.ServerName = c.ServerName
		}
		if c.Compression != "" {
			out.Compression = c.Compression
		}
		return out
	}
	out := *c
	fill := func(to *string, from string) {
		if *to == "" {
			*to = from
		}
	}
	on := c.TLS.on()
	out.TLS.Enabled = &on
	if out.TLS.InsecureSkipVerify == nil {
		out.TLS.InsecureSkipVerify = def.TLS.InsecureSkipVerify
	}
	if out.TLS.CertFile == "" && out.TLS.KeyFile == "" {
		out.TLS.CertFile, out.TLS.KeyFile = def.TLS.CertFile, def.TLS.KeyFile
	}
	fill(&out.TLS.CAFile, def.TLS.CAFile)
	fill(&out.TLS.MinVersion, def.TLS.MinVersion)
	fill(&out.ServerName, def.ServerName)
	fill(&out.Compression, def.Compression)
	return out
}
