package provider

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"

	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// tlsFiles are the TLS files that a section of objstore.yml names.
type tlsFiles struct {
	HTTP struct {
		SkipVerify bool `yaml:"insecure_skip_verify"`
		TLS        struct {
			CA         string `yaml:"ca_file"`
			Cert       string `yaml:"cert_file"`
			Key        string `yaml:"key_file"`
			ServerName string `yaml:"server_name"`
			SkipVerify bool   `yaml:"insecure_skip_verify"`
		} `yaml:"tls_config"`
	} `yaml:"http_config"`
}

// rereadTLS returns a transport like rt that reads the TLS files of the section again
// when they change: objstore reads them once. It returns rt where it is not a plain
// transport or where no file is named; then a bucket is opened again after a refused
// certificate.
func rereadTLS(rt http.RoundTripper, section []byte, logger *slog.Logger) (http.RoundTripper, error) {
	base, ok := rt.(*http.Transport)
	var f tlsFiles
	parsed := yaml.Unmarshal(section, &f) == nil
	if !parsed || !ok {
		return rt, nil // openers check the section
	}
	t := f.HTTP.TLS
	if t.CA == "" && t.Cert == "" {
		return rt, nil
	}
	client, err := tlsconfig.NewClient("object storage", tlsconfig.ClientFiles{
		CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName, MinVersion: "1.2",
		SkipVerify: t.SkipVerify || f.HTTP.SkipVerify,
	}, logger)
	if err != nil {
		return nil, fmt.Errorf("TLS files of http_config: %w", err)
	}
	return client.RoundTripper(func(cfg *tls.Config) *http.Transport {
		next := base.Clone()
		next.TLSClientConfig = cfg
		return next
	}), nil
}
