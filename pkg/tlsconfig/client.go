package tlsconfig

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ClientFiles names the files and bounds of a TLS client.
type ClientFiles struct {
	// Cert and Key are the certificate of the client, or empty.
	Cert, Key string
	// CA is the bundle that servers are verified with; empty means the bundle of the
	// system.
	CA string
	// ServerName is the name that the certificate of the server must have;
	// empty means the host of the connection.
	ServerName string
	MinVersion string
	SkipVerify bool
}

// Client is the TLS side of connections to servers.
type Client struct {
	current *Current[*tls.Config]
	name    string
}

// NewClient reads the files. component names the connections in log lines.
func NewClient(component string, f ClientFiles, logger *slog.Logger) (*Client, error) {
	c, err := NewCurrent(component, logger, f.config)
	if err != nil {
		return nil, err
	}
	return &Client{current: c, name: f.ServerName}, nil
}

// Reload reads the files. After an error the last good ones stay in use.
func (c *Client) Reload() error { return c.current.Reload() }

// Credentials returns the credentials of gRPC connections. Each handshake uses the
// newest version of the files. A nil Client is plain text.
func (c *Client) Credentials() credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return &grpcCredentials{client: c, name: c.name}
}

// RoundTripper returns an HTTP client transport that uses the newest version of the
// files for each request. A new version makes a new transport with newTransport;
// requests that use the old one finish on it.
func (c *Client) RoundTripper(newTransport func(*tls.Config) *http.Transport) http.RoundTripper {
	return &roundTripper{client: c, newTransport: newTransport}
}

func (f ClientFiles) config() (*tls.Config, []string, error) {
	var files []string
	cfg := &tls.Config{ServerName: f.ServerName, InsecureSkipVerify: f.SkipVerify}
	var err error
	if cfg.MinVersion, err = Version(f.MinVersion); err != nil {
		return nil, files, err
	}
	if f.CA != "" {
		files = append(files, f.CA)
		if cfg.RootCAs, err = loadBundle(f.CA); err != nil {
			return nil, files, err
		}
	}
	if f.Cert != "" {
		files = append(files, f.Cert, f.Key)
		cert, err := loadPair(f.Cert, f.Key)
		if err != nil {
			return nil, files, err
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, files, nil
}

// grpcCredentials passes each handshake to credentials of the newest files.
type grpcCredentials struct {
	client *Client
	name   string
}

func (g *grpcCredentials) now() credentials.TransportCredentials {
	cfg := g.client.current.Get().Clone()
	cfg.ServerName = g.name
	return credentials.NewTLS(cfg)
}

// ClientHandshake implements credentials.TransportCredentials.
func (g *grpcCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return g.now().ClientHandshake(ctx, authority, conn)
}

// ServerHandshake implements credentials.TransportCredentials.
func (g *grpcCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return g.now().ServerHandshake(conn)
}

// Info implements credentials.TransportCredentials.
func (g *grpcCredentials) Info() credentials.ProtocolInfo { return g.now().Info() }

// Clone implements credentials.TransportCredentials.
func (g *grpcCredentials) Clone() credentials.TransportCredentials {
	clone := *g
	return &clone
}

// OverrideServerName implements credentials.TransportCredentials.
func (g *grpcCredentials) OverrideServerName(name string) error {
	g.name = name
	return nil
}

type roundTripper struct {
	client       *Client
	newTransport func(*tls.Config) *http.Transport

	mu        sync.Mutex
	config    *tls.Config
	transport *http.Transport
}

func (r *roundTripper) now() *http.Transport {
	cfg := r.client.current.Get()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.config != cfg {
		if r.transport != nil {
			r.transport.CloseIdleConnections()
		}
		r.config, r.transport = cfg, r.newTransport(cfg.Clone())
	}
	return r.transport
}

// RoundTrip implements http.RoundTripper.
func (r *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	return r.now().RoundTrip(req)
}

// CloseIdleConnections closes the connections that no request uses.
func (r *roundTripper) CloseIdleConnections() { r.now().CloseIdleConnections() }
