package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

func tlsVersion(s string) (uint16, error) {
	switch s {
	case "", "1.3":
		return tls.VersionTLS13, nil
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "1.0":
		return tls.VersionTLS10, nil
	}
	return 0, fmt.Errorf("TLS version %q is not known (choose 1.0, 1.1, 1.2 or 1.3)", s)
}

// transport returns the credentials of a connection. The client certificate is
// read again for every handshake, so it may be renewed.
func transport(c ClientConfig) (credentials.TransportCredentials, error) {
	if !c.TLS.on() {
		return insecure.NewCredentials(), nil
	}
	minVersion, err := tlsVersion(c.TLS.MinVersion)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: minVersion, ServerName: c.ServerName}
	if c.TLS.InsecureSkipVerify != nil {
		cfg.InsecureSkipVerify = *c.TLS.InsecureSkipVerify
	}
	if c.TLS.CAFile != "" {
		pem, err := os.ReadFile(c.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA bundle: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA bundle %s has no certificate", c.TLS.CAFile)
		}
	}
	if c.TLS.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("load the client certificate: %w", err)
			}
			return &cert, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return credentials.NewTLS(cfg), nil
}
