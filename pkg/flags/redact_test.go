package flags

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedactArgs_HidesSecretsAndKeepsTheRest(t *testing.T) {
	got := RedactArgs([]string{
		"hindsight", "receive",
		"--objstore.config=type: S3\nconfig: {secret_key: TOPSECRET}",
		"--receive.limits-config", "write: {password: TOPSECRET}",
		"--objstore.config-file=/etc/objstore.yml",
		"--http.config=/etc/web.yml",
		"--prometheus.url=http://user:TOPSECRET@host:9090/path",
		"--query=http://TOPSECRET@host",
		"--prometheus.url=user:TOPSECRET@host:9090",
		"--alert.query-url=https://host/?token=TOPSECRET&a=b",
		"--prometheus.http-client", "basic_auth: {password: TOPSECRET}",
		"--some.flag", `{"access_key": "TOPSECRET"}`,
		"--other=bearer_token: TOPSECRET",
		`--label=cluster="eu"`,
		"--wait", "--tsdb.path=/data:x",
	})
	require.Equal(t, []string{
		"hindsight", "receive",
		"--objstore.config=<REDACTED>",
		"--receive.limits-config", "<REDACTED>",
		"--objstore.config-file=/etc/objstore.yml",
		"--http.config=/etc/web.yml",
		"--prometheus.url=http://<REDACTED>@host:9090/path",
		"--query=http://<REDACTED>@host",
		"--prometheus.url=<REDACTED>@host:9090",
		"--alert.query-url=https://host/?token=<REDACTED>&a=b",
		"--prometheus.http-client", "<REDACTED>",
		"--some.flag", "<REDACTED>",
		"--other=<REDACTED>",
		`--label=cluster="eu"`,
		"--wait", "--tsdb.path=/data:x",
	}, got)
}

func TestRedact_EveryInlineConfiguration(t *testing.T) {
	for _, name := range []string{
		"objstore.config", "tracing.config", "endpoint.sd-config", "index-cache.config", "receive.limits-config",
		"receive.relabel-config", "request.logging-config", "prometheus.http-client", "receive.grpc-service-config",
	} {
		require.Equal(t, redacted, Redact(name, "x"), name)
		require.Empty(t, Redact(name, ""), name)
	}
}
