package endpoint

import (
	"log/slog"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// transport returns the credentials of the connections to a store.
func transport(address string, c ClientConfig, logger *slog.Logger) (credentials.TransportCredentials, error) {
	if !c.TLS.on() {
		return insecure.NewCredentials(), nil
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
