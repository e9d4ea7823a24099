package e2e

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// The arguments that tutorials of Thanos give start the roles of Hindsight, with the
// ports that stand there.
func TestWalkthrough_FlagsStartTheRoles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pods, err := harness.NewPods(dir, "thanos-receive.monitoring.svc.cluster.local", "thanos-receive-0", "thanos-receive-1", "thanos-receive-2")
	if errors.Is(err, harness.ErrNoPods) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, pods.Close()) }()
	bucket := "type: FILESYSTEM\nconfig:\n  directory: " + filepath.Join(dir, "bucket") + "\n"
	for name, content := range map[string]string{
		"bucket.yml": bucket, "etc/thanos/objstore.yml": bucket,
		"etc/thanos/hashring.json": `[{"endpoints": ["thanos-receive-0.thanos-receive.monitoring.svc.cluster.local:10901",
			"thanos-receive-1.thanos-receive.monitoring.svc.cluster.local:10901", "thanos-receive-2.thanos-receive.monitoring.svc.cluster.local:10901"]}]`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "prometheus"), 0o755))

	page, err := os.ReadFile("../../docs/walkthroughs.md")
	require.NoError(t, err)
	started := 0
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(args:.*?)^```$").FindAllSubmatch(page, -1) {
		var c struct{ Args []string }
		require.NoError(t, yaml.Unmarshal(block[1], &c))
		port, args := "10902", []string{}
		for _, a := range c.Args {
			for _, path := range []string{"/prometheus", "/etc/thanos", "/data", "bucket.yml"} {
				a = strings.ReplaceAll(a, "="+path, "="+filepath.Join(dir, path))
			}
			if p, ok := strings.CutPrefix(a, "--http-address=0.0.0.0:"); ok {
				port = p
			}
			args = append(args, a)
		}
		p, err := pods.Start("thanos-receive-0", bin.Hindsight, args...)
		require.NoError(t, err)
		local, err := pods.Forward(pods.IP("thanos-receive-0") + ":" + port)
		require.NoError(t, err)
		path := "/-/healthy" // the stores and Prometheus are absent
		if args[0] == "receive" {
			path = "/-/ready"
		}
		require.NoError(t, harness.WaitHTTP(p, "http://"+local+path, time.Minute), "%v:\n%s", c.Args, p.Tail(10))
		resp, err := http.Get("http://" + local + "/-/healthy")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		p.Kill()
		started++
	}
	require.Equal(t, 4, started)
}

// Each metric that the walkthroughs name is exported.
func TestWalkthrough_NamesMetrics(t *testing.T) {
	page, err := os.ReadFile("../../docs/walkthroughs.md")
	require.NoError(t, err)
	metrics, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("`(hindsight_[a-z_]+)`").FindAllSubmatch(page, -1) {
		require.Contains(t, string(metrics), "| `"+string(m[1])+"` |", "no role exports it")
	}
}
