package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// The Prometheus project's suite for receivers of remote write passes as a whole
// against a node, a ring, and the paths of both families.
func TestRemoteWriteCompliance(t *testing.T) {
	t.Parallel()
	suite, err := harness.Compliance(os.Stderr)
	require.NoError(t, err)
	s := newSite(t)
	nodes := []string{"receive-1", "receive-2", "receive-3"}
	for _, n := range nodes {
		s.Extra[n] = []string{"--tsdb.max-exemplars=10000"}
	}
	require.NoError(t, s.Start(append([]string{"s3"}, nodes...)...))
	config := s.Path("compliance.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
remote_write:
  - {name: ring, url: "http://%[1]s/api/v1/receive"}
  - {name: push, url: "http://%[1]s/api/v1/push", headers: {X-Scope-OrgID: compliance}}
`, s.Addr("receive-2/write")), 0o644))
	cmd := exec.Command(suite, "-test.v")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PROMETHEUS_RW2_COMPLIANCE_CONFIG_FILE="+config, "PROMETHEUS_RW2_COMPLIANCE_RECEIVERS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", failures(out))
	passed := bytes.Count(out, []byte("--- PASS"))
	require.Greater(t, passed, 500)
	require.NotContains(t, string(out), "--- SKIP")
	t.Logf("%d cases of the suite passed", passed)
}

// failures returns the lines of the output of failed tests.
func failures(out []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		for _, word := range []string{"--- FAIL", "Error:", "expected", "actual", "Messages", "Response"} {
			if strings.Contains(line, word) {
				b.WriteString(line)
				break
			}
		}
	}
	return b.String()
}
