package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// Wrong input ends with exit code 2 and one line that names the mistake.
func TestWrongInput(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	write := func(name, text string) string {
		path := s.Path(name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	f := func(want []string, args ...string) {
		t.Helper()
		name := "wrong-" + args[0]
		require.NoError(t, os.RemoveAll(s.Path(name+".log")))
		p, err := harness.StartEnv(s.Dir, []string{"S3_ACCESS_KEY=wrong", "S3_SECRET_KEY=wrong"}, name, bin.Hindsight, args...)
		require.NoError(t, err)
		code, err := p.Wait(30 * time.Second)
		if err != nil {
			p.Kill()
		}
		require.NoError(t, err)
		out := p.Output()
		require.Equal(t, 2, code, out)
		require.NotContains(t, out, "goroutine ")
		var lines []string
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			if !strings.HasPrefix(line, "ts=") { // the log
				lines = append(lines, line)
			}
		}
		require.Len(t, lines, 1, out)
		for _, w := range want {
			require.Contains(t, lines[0], w)
		}
	}
	host := strings.Split(s.Addr("query"), ":")[0]
	http, grpc := "--http-address="+host+":0", "--grpc-address="+host+":0"

	f([]string{"--no-such-flag"}, "query", "--no-such-flag")
	f([]string{"sidecarr"}, "sidecarr")
	f([]string{"http-grace-period", "2 minutes"}, "query", http, grpc, "--http-grace-period=2 minutes")
	f([]string{"does-not-exist.yml"}, "store", http, grpc, "--objstore.config-file="+s.Path("does-not-exist.yml"))

	broken := write("broken.yml", "type: S3\nconfig:\n  bucket: [\n")
	f([]string{"broken.yml", "line "}, "store", http, grpc, "--objstore.config-file="+broken)
	unknown := write("unknown.yml", "type: FILESYSTEM\nconfig:\n  directory: "+s.Path("b")+"\n  directoy: x\n")
	f([]string{"unknown.yml", "directoy"}, "compact", http, "--objstore.config-file="+unknown)
	f([]string{"no bucket", "--objstore.config-file"}, "compact", http)
	ring := write("ring.json", `[{"endpoints": ["a:1", ]}]`)
	f([]string{"ring.json"}, "receive", http, grpc, "--remote-write.address="+host+":0", "--tsdb.path="+s.Path("r"),
		`--label=a="b"`, "--receive.hashrings-file="+ring)

	require.NoError(t, s.Start("s3"))
	f([]string{"objstore.yml", "hindsight"}, "store", http, grpc, "--data-dir="+filepath.Join(s.Dir, "st"),
		"--objstore.config-file="+s.Path("objstore.yml"))

	bare := write("prometheus-eu-a.yml", "global:\n  scrape_interval: 15s\n")
	require.FileExists(t, bare)
	require.NoError(t, s.Start("prometheus-eu-a"))
	f([]string{"external_labels", s.URL("prometheus-eu-a")}, "sidecar", http, grpc, "--prometheus.url="+s.URL("prometheus-eu-a"),
		"--tsdb.path="+s.Path("prometheus-eu-a"))
}
