package receive

import (
	"errors"
	"log/slog"

	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// ServerTLS names the files of the remote write server.
type ServerTLS struct {
	Cert, Key, ClientCA, MinVersion string
	Ciphers, Curves                 []string
}

func (t *ServerTLS) validate() error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("--remote-write.server-tls-cert and --remote-write.server-tls-key must be given together")
	}
	if t.ClientCA != "" && t.Cert == "" {
		return errors.New("--remote-write.server-tls-client-ca needs --remote-write.server-tls-cert and --remote-write.server-tls-key")
	}
	return nil
}

// server returns nil for plain text.
func (t *ServerTLS) server(logger *slog.Logger) (*tlsconfig.Server, error) {
	return tlsconfig.NewServer("remote write server", tlsconfig.ServerFiles{
		Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA, MinVersion: t.MinVersion,
		Ciphers: t.Ciphers, Curves: t.Curves, Protocols: []string{"h2", "http/1.1"},
	}, logger)
}

// ClientTLS names the files of connections to peers.
type ClientTLS struct {
	Cert, Key, CA, ServerName, MinVersion string
	Secure, SkipVerify                    bool
}

// client returns nil for plain text.
func (t *ClientTLS) client(logger *slog.Logger) (*tlsconfig.Client, error) {
	if !t.Secure {
		return nil, nil
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("--remote-write.client-tls-cert and --remote-write.client-tls-key must be given together")
	}
	return tlsconfig.NewClient("peer client", tlsconfig.ClientFiles{
		Cert: t.Cert, Key: t.Key, CA: t.CA, ServerName: t.ServerName, MinVersion: t.MinVersion, SkipVerify: t.SkipVerify,
	}, logger)
}
