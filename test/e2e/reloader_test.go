package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// A real Prometheus reloads after a Kubernetes mount is replaced and after rule
// directories appear, by HTTP and by signal. A configuration that it refuses is
// reported and not sent in a loop.
func TestReloader_ReloadsPrometheus(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"http", "signal"} {
		t.Run(method, func(t *testing.T) {
			s := newSite(t)
			addr, err := harness.Ports(harness.Host(), 2)
			require.NoError(t, err)
			// The signal must reach this process only.
			program := fmt.Sprintf("prometheus-of-test-%d-%s", os.Getpid(), method)
			require.NoError(t, os.Symlink(bin.Prometheus, s.Path(program)))
			versions := 0
			mount := func(config string) {
				t.Helper()
				versions++
				name := fmt.Sprintf("..v%d", versions)
				require.NoError(t, os.MkdirAll(s.Path("mount", name), 0o755))
				require.NoError(t, os.WriteFile(s.Path("mount", name, "prometheus.yml"), []byte(config), 0o644))
				require.NoError(t, os.Symlink(name, s.Path("mount", "..new")))
				require.NoError(t, os.Rename(s.Path("mount", "..new"), s.Path("mount", "..data")))
			}
			config := "global: {external_labels: {cluster: $(HINDSIGHT_TEST_CLUSTER), version: %q}}\nrule_files: [" + s.Path("late") + "/team-a/*.yml]\n"
			mount(fmt.Sprintf(config, "v1"))
			require.NoError(t, os.Symlink("..data/prometheus.yml", s.Path("mount", "prometheus.yml")))
			require.NoError(t, os.MkdirAll(s.Path("data"), 0o755))

			sidecar, err := harness.StartEnv(s.Dir, []string{"HINDSIGHT_TEST_CLUSTER=eu"}, "reloading", bin.Hindsight, "sidecar",
				"--http-address="+addr[1], "--grpc-address="+harness.Host()+":0", "--tsdb.path="+s.Path("data"), "--prometheus.url=http://"+addr[0],
				"--reloader.config-file="+s.Path("mount", "prometheus.yml"), "--reloader.config-envsubst-file="+s.Path("out.yml"),
				"--reloader.rule-dir="+s.Path("late")+"/*", "--reloader.rule-dir="+s.Path("not-there"),
				"--reloader.watch-interval=10m", "--reloader.retry-interval=1s", "--reloader.method="+method, "--reloader.process-name="+program)
			require.NoError(t, err)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the end of the log:\n%s", sidecar.Tail(15))
				}
				sidecar.Kill()
			})
			eventually(t, time.Minute, func() error { _, err := os.Stat(s.Path("out.yml")); return err })
			prom, err := harness.Start(s.Dir, "reloaded", s.Path(program), "--config.file="+s.Path("out.yml"), "--storage.tsdb.path="+s.Path("data"),
				"--web.listen-address="+addr[0], "--web.enable-lifecycle", "--log.level=warn")
			require.NoError(t, err)
			t.Cleanup(prom.Kill)
			require.NoError(t, harness.WaitHTTP(prom, "http://"+addr[0]+"/-/ready", time.Minute))

			metric := func(name string, want float64) error {
				got, err := gauge("http://"+addr[1]+"/metrics", "reloader_"+name)
				if err == nil && got != want {
					err = fmt.Errorf("%s is %v, not %v", name, got, want)
				}
				return err
			}
			loaded := func(part string) func() error {
				return func() error {
					var got struct{ YAML string }
					err := harness.API{Base: "http://" + addr[0]}.JSON("/api/v1/status/config", nil, &got)
					if err == nil && !strings.Contains(got.YAML, part) {
						err = fmt.Errorf("%s is not in %s", part, got.YAML)
					}
					return err
				}
			}
			eventually(t, time.Minute, loaded("cluster: eu"))
			eventually(t, time.Minute, func() error { return metric("last_reload_successful", 1) })

			mount(fmt.Sprintf(config, "v2"))
			eventually(t, time.Minute, loaded("version: v2"))
			require.NoError(t, os.MkdirAll(filepath.Join(s.Path("late"), "team-a"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(s.Path("late"), "team-a", "r.yml"), []byte(ruleFile), 0o644))
			eventually(t, time.Minute, func() error {
				var got struct{ Groups []any }
				err := harness.API{Base: "http://" + addr[0]}.JSON("/api/v1/rules", nil, &got)
				if err == nil && len(got.Groups) != 1 {
					err = fmt.Errorf("groups: %v", got.Groups)
				}
				return err
			})
			eventually(t, time.Minute, func() error { return metric("last_reload_successful", 1) })

			// Refused, with pauses that grow: 1 s, 2 s, 4 s.
			before, err := gauge("http://"+addr[1]+"/metrics", "reloader_reloads_failed_total")
			require.NoError(t, err)
			mount(fmt.Sprintf(config, "v3") + "no_such_key: 1\n")
			eventually(t, time.Minute, func() error { return metric("last_reload_successful", 0) })
			eventually(t, time.Minute, func() error {
				if !strings.Contains(sidecar.Output(), map[string]string{"http": "no_such_key", "signal": "refused the configuration after SIGHUP"}[method]) {
					return fmt.Errorf("no error in the log")
				}
				return nil
			})
			mount(fmt.Sprintf(config, "v4"))
			eventually(t, time.Minute, loaded("version: v4"))
			eventually(t, time.Minute, func() error { return metric("last_reload_successful", 1) })
			failed, err := gauge("http://"+addr[1]+"/metrics", "reloader_reloads_failed_total")
			require.NoError(t, err)
			require.Greater(t, failed, before)
			require.LessOrEqual(t, failed, before+6)
		})
	}
}
