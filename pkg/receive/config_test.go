package receive

import (
	"io"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

func TestFlags_RejectInvalidConfiguration(t *testing.T) {
	for arg, want := range map[string]string{
		"--receive.replication-factor=0":                    "must be at least 1",
		"--receive.replication-factor=3":                    "there is no hashring",
		"--receive.hashrings-file-refresh-interval=0s":      "must be above 0",
		"--receive.forward.async-workers=-1":                "must be from 0 to 1000",
		"--receive.forward.async-workers=9223372036854":     "must be from 0 to 1000",
		"--receive-forward-timeout=0s":                      "must be above 0",
		"--receive.local-endpoint=here":                     "host:port",
		"--remote-write.max-request-size=0":                 "must be above 0",
		"--deletions.poll-interval=0s":                      "--deletions.poll-interval must be above 0",
		"--remote-write.max-inflight-size=1MiB":             "must not be below",
		"--remote-write.server-tls-cert=x":                  "must be given together",
		"--receive.tenant-certificate-field=organization":   "no client shows a certificate",
		"--receive.default-tenant-id=a/b":                   "--receive.default-tenant-id",
		"--receive.tenant-label-name=":                      "not a label name",
		"--tsdb.path=":                                      "--tsdb.path is empty",
		"--tsdb.min-block-duration=3h":                      "at most --tsdb.max-block-duration",
		"--tsdb.out-of-order.cap-max=256":                   "from 0, for the default, to 255",
		"--tsdb.max-exemplars=9223372036854775807":          "must be at most 100000000",
		"--receive.hashrings-algorithm=ring-of-my-own":      "ketama",
		"--receive.replication-protocol=carrier-pigeon":     "capnproto",
		"--receive.tenant-certificate-field=favouriteColor": "organization",
	} {
		app := kingpin.New("receive", "").Terminate(nil).UsageWriter(io.Discard).ErrorWriter(io.Discard)
		var cfg Config
		cfg.RegisterFlags(app)
		args := []string{arg}
		if arg == "--receive.hashrings-file-refresh-interval=0s" {
			args = append(args, "--receive.hashrings-file=ring.json")
		}
		_, err := app.Parse(args)
		if err == nil {
			err = cfg.Validate()
			require.True(t, flags.IsInvalid(err), arg)
		}
		require.ErrorContains(t, err, want, arg)
	}
}

func TestReadRelabel_RefusesAnEmptyRule(t *testing.T) {
	p := flags.Inline("receive.relabel-config", "[{target_label: a, replacement: b}, null]")
	_, err := readRelabel(&p)
	require.ErrorContains(t, err, "--receive.relabel-config: rule 2 is empty")
	require.True(t, flags.IsInvalid(err))
}
