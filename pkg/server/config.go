package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpserver"
	"github.com/hindsight-io/hindsight/pkg/requestlog"
	"github.com/hindsight-io/hindsight/pkg/webconfig"
)

// Config holds the flags of the listeners.
type Config struct {
	HTTPAddress     string
	HTTPGracePeriod flags.Duration
	HTTPConfigFile  string
	// HTTPMaxConnections and HTTPStallTimeout bound the clients of the HTTP server; 0
	// is no limit.
	HTTPMaxConnections int
	HTTPStallTimeout   flags.Duration
	// HTTPDisableProfiling leaves out the pages of pprof.
	HTTPDisableProfiling bool
	// HTTPProfilingAddress serves them there instead of on HTTPAddress, unless empty.
	HTTPProfilingAddress string
	// ThanosAliases exports metrics under the names of Thanos as well.
	ThanosAliases bool
	// RequestLogging chooses the requests that are logged, over HTTP and gRPC.
	RequestLogging flags.PathOrContent

	// GRPC is false for components without gRPC services.
	GRPC               bool
	GRPCAddress        string
	GRPCGracePeriod    flags.Duration
	GRPCMaxConnAge     time.Duration
	GRPCTLSCert        string
	GRPCTLSKey         string
	GRPCTLSClientCA    string
	GRPCTLSMinVersion  string
	GRPCTLSCiphers     []string
	GRPCTLSCurves      []string
	GRPCMaxMessageSize flags.Bytes
	GRPCSendTimeout    flags.Duration
}

// RegisterFlags adds the HTTP flags and, for components with gRPC services,
// the gRPC flags.
func (c *Config) RegisterFlags(r flags.Registrar, grpc bool) {
	r.Flag("http-address", "Address of the HTTP server: API, pages, metrics and probes.").
		Default("0.0.0.0:10902").StringVar(&c.HTTPAddress)
	r.Flag("http-grace-period", "How long a stop waits for running HTTP requests.").
		Default("2m").SetValue(&c.HTTPGracePeriod)
	r.Flag("http.config", "Path of a web configuration file with TLS and basic auth for the HTTP server.").
		StringVar(&c.HTTPConfigFile)
	r.Flag("http.max-connections", "Open connections of the HTTP server; idle ones are closed for new ones. 0 is no limit.").
		Default("1024").IntVar(&c.HTTPMaxConnections)
	r.Flag("http.stall-timeout", "How long an HTTP client may read nothing of its answer before it is disconnected; 0s is no limit.").
		Default("10s").SetValue(&c.HTTPStallTimeout)
	r.Flag("http.disable-profiling", "Serve no profiling pages below /debug/pprof/, which cost CPU and show internals.").
		BoolVar(&c.HTTPDisableProfiling)
	r.Flag("http.profiling-address", "Serve the profiling pages on this address only, such as 127.0.0.1:6060, and not on --http-address. TLS and users of --http.config apply.").
		StringVar(&c.HTTPProfilingAddress)
	r.Flag("metrics.thanos-aliases", "Export metrics under the names of Thanos as well, for its dashboards and alerts.").
		BoolVar(&c.ThanosAliases)
	c.RequestLogging.Register(r, "request.logging-config", "request logging: which HTTP and gRPC requests are logged", true)
	c.GRPC = grpc
	if grpc {
		c.registerGRPC(r)
	}
}

func (c *Config) registerGRPC(r flags.Registrar) {
	r.Flag("grpc-address", "Address of the gRPC server (StoreAPI).").
		Default("0.0.0.0:10901").StringVar(&c.GRPCAddress)
	r.Flag("grpc-grace-period", "How long a stop waits for running gRPC calls.").
		Default("2m").SetValue(&c.GRPCGracePeriod)
	r.Flag("grpc-server-max-connection-age", "Age after which clients are asked to connect again; 0 is never.").
		Default("60m").DurationVar(&c.GRPCMaxConnAge)
	r.Flag("grpc-server-tls-cert", "Certificate of the gRPC server; without it and the key, plain text.").
		StringVar(&c.GRPCTLSCert)
	r.Flag("grpc-server-tls-key", "Private key of the gRPC server.").StringVar(&c.GRPCTLSKey)
	r.Flag("grpc-server-tls-client-ca", "CA of client certificates; when given, clients must have one.").
		StringVar(&c.GRPCTLSClientCA)
	r.Flag("grpc-server-tls-min-version", "Lowest TLS version: 1.0, 1.1, 1.2 or 1.3.").
		Default("1.3").EnumVar(&c.GRPCTLSMinVersion, "1.0", "1.1", "1.2", "1.3")
	r.Flag("grpc-server-tls-ciphers", "Allowed cipher suite by its Go name; may be repeated.").
		StringsVar(&c.GRPCTLSCiphers)
	r.Flag("grpc-server-tls-curves", "Allowed key exchange group; may be repeated.").
		StringsVar(&c.GRPCTLSCurves)
	c.GRPCMaxMessageSize = 512 << 20
	r.Flag("grpc-server-max-message-size", "Largest gRPC message accepted from a client.").
		Default("512MiB").SetValue(&c.GRPCMaxMessageSize)
	r.Flag("grpc-server-send-timeout", "How long a message of a streamed answer may wait for a client that does not read; the call ends then. 0 is for ever.").
		Default("2m").SetValue(&c.GRPCSendTimeout)
}

// limits returns the limits of the HTTP server.
func (c *Config) limits() httpserver.Limits {
	l := httpserver.Defaults()
	l.MaxConnections, l.StallTimeout = c.HTTPMaxConnections, c.HTTPStallTimeout.Duration()
	return l
}

// requestLogging reads the configuration of request logging.
func (c *Config) requestLogging() (requestlog.Config, error) {
	content, err := c.RequestLogging.Content()
	if err != nil {
		return requestlog.Config{}, err
	}
	l, err := requestlog.Parse(content)
	if err != nil {
		return l, flags.Invalid(fmt.Errorf("request logging configuration %s: %w", c.RequestLogging.Source(), err))
	}
	return l, nil
}

// Validate checks the flags, without listening.
func (c *Config) Validate() error {
	if c.HTTPAddress == "" {
		return flags.Invalid(errors.New("--http-address is empty"))
	}
	if c.HTTPMaxConnections < 0 {
		return flags.Invalid(errors.New("--http.max-connections must not be negative"))
	}
	if c.HTTPDisableProfiling && c.HTTPProfilingAddress != "" {
		return flags.Invalid(errors.New("--http.disable-profiling and --http.profiling-address contradict each other"))
	}
	if _, err := webconfig.Open("--http.config", c.HTTPConfigFile, nil); err != nil {
		return err
	}
	if _, err := c.requestLogging(); err != nil {
		return err
	}
	if !c.GRPC {
		return nil
	}
	if (c.GRPCTLSCert == "") != (c.GRPCTLSKey == "") {
		return flags.Invalid(errors.New("--grpc-server-tls-cert and --grpc-server-tls-key must be given together"))
	}
	if c.GRPCTLSClientCA != "" && c.GRPCTLSCert == "" {
		return flags.Invalid(errors.New("--grpc-server-tls-client-ca needs --grpc-server-tls-cert and --grpc-server-tls-key"))
	}
	if c.GRPCMaxMessageSize.Int64() <= 0 || c.GRPCMaxMessageSize.Int64() > 1<<31-1 {
		return flags.Invalid(errors.New("--grpc-server-max-message-size must be above 0 and below 2GiB"))
	}
	return nil
}
