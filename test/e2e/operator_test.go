package e2e

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

const operatorPod = "prometheus-k8s-0"

// operatorSite is a pod of prometheus-operator: Prometheus and the sidecar with the
// arguments that the operator gives them, on the ports of the pod.
type operatorSite struct {
	*harness.Pods
	t       *testing.T
	dir     string
	env     map[string]string
	ca      *authority
	prefix  string
	scheme  string
	procs   []*harness.Process
	web     string // the forwarded ports of the sidecar
	grpc    string
	client  *storerpc.Client
	prom    *harness.Process
	sidecar *harness.Process
}

// args reads a list of arguments as the kubelet passes it on.
func (s *operatorSite) args(name string) []string {
	content, err := os.ReadFile(filepath.Join("testdata/operator", name))
	require.NoError(s.t, err)
	var out []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for k, v := range s.env {
			line = strings.ReplaceAll(line, "$("+k+")", v)
		}
		for _, mount := range []string{"=/prometheus", "=/etc/"} {
			line = strings.Replace(line, mount, "="+s.dir+mount[1:], 1)
		}
		out = append(out, line)
	}
	return out
}

func newOperatorSite(t *testing.T, tlsOn bool) *operatorSite {
	t.Helper()
	s := &operatorSite{t: t, dir: t.TempDir(), prefix: "/", scheme: "http", ca: newAuthority(t, "operator")}
	if tlsOn {
		s.prefix, s.scheme = "/prefix", "https"
	}
	var err error
	s.Pods, err = harness.NewPods(s.dir, "prometheus-operated.monitoring.svc.cluster.local", operatorPod)
	if errors.Is(err, harness.ErrNoPods) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, p := range s.procs {
			if t.Failed() {
				t.Logf("the end of the log of %s:\n%s", p.Name, p.Tail(15))
			}
			p.Kill()
		}
		require.NoError(t, s.Close())
	})
	objstore := "type: FILESYSTEM\nconfig:\n  directory: " + s.dir + "/bucket\n"
	tracing := "type: OTLP\nconfig:\n  client_type: grpc\n  endpoint: localhost:4317\n  insecure: true\n  sampler_type: neversample\n"
	s.env = map[string]string{"OBJSTORE_CONFIG": objstore, "TRACING_CONFIG": tracing, "POD_IP": s.IP(operatorPod)}
	s.write("etc/thanos/objstore.yaml", objstore)
	s.write("etc/thanos/tracing.yaml", tracing)
	s.write("etc/thanos/web-config.yaml", "http_server_config:\n  http2: true\n")
	s.write("etc/tls/grpc/ca.crt", string(s.ca.pem))
	s.ca.issue(s.dir+"/etc/tls/grpc", "server")
	s.ca.issue(s.dir+"/etc/prometheus", "web")
	s.write("etc/prometheus/rules.yml", ruleFile)
	scheme := ""
	if tlsOn {
		s.write("etc/prometheus/web-config.yaml", "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n")
		scheme = "scheme: https, metrics_path: /prefix/metrics, tls_config: {insecure_skip_verify: true},"
	} else {
		s.write("etc/prometheus/web-config.yaml", "")
	}
	s.write("etc/prometheus/prometheus.env.yaml", fmt.Sprintf(`
global:
  scrape_interval: 1s
  evaluation_interval: 1s
  external_labels: {prometheus: monitoring/k8s, prometheus_replica: %s}
rule_files: [rules.yml]
scrape_configs: [{job_name: self, %s static_configs: [{targets: ["localhost:9090"]}]}]
`, operatorPod, scheme))
	require.NoError(t, os.MkdirAll(s.dir+"/prometheus", 0o755))
	return s
}

func (s *operatorSite) write(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(s.t, os.WriteFile(path, []byte(content), 0o644))
}

// startPrometheus starts it as the operator does when blocks are shipped.
func (s *operatorSite) startPrometheus() {
	s.t.Helper()
	var err error
	s.prom, err = s.Start(operatorPod, bin.Prometheus,
		"--config.file="+s.dir+"/etc/prometheus/prometheus.env.yaml", "--web.enable-lifecycle",
		"--web.external-url=http://prometheus-k8s.monitoring:9090"+s.prefix, "--web.route-prefix="+s.prefix,
		"--storage.tsdb.retention.time=24h", "--storage.tsdb.path="+s.dir+"/prometheus",
		"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
		"--web.config.file="+s.dir+"/etc/prometheus/web-config.yaml")
	require.NoError(s.t, err)
	s.procs = append(s.procs, s.prom)
}

// startSidecar starts it, and connects to its ports as the kubelet and queriers do.
func (s *operatorSite) startSidecar(args []string) {
	s.t.Helper()
	var err error
	s.sidecar, err = s.Start(operatorPod, bin.Hindsight, args...)
	require.NoError(s.t, err)
	s.procs = append(s.procs, s.sidecar)
	s.web, err = s.Forward(s.IP(operatorPod) + ":10902")
	require.NoError(s.t, err)
	s.grpc, err = s.Forward(s.IP(operatorPod) + ":10901")
	require.NoError(s.t, err)
	creds := insecure.NewCredentials()
	if s.scheme == "https" {
		creds = credentials.NewTLS(s.ca.client(s.ca))
	}
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(creds))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, conn.Close()) })
	s.client = storerpc.NewClient(conn, "thanos-sidecar")
}

// probe is a probe of the kubelet.
func (s *operatorSite) probe(path string) error {
	c := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + s.web + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return nil
}

// samples counts the series of up, which have the labels of the operator.
func (s *operatorSite) samples() error {
	set := s.client.Select(s.t.Context(), &storeapi.Request{
		MinTime: 0, MaxTime: math.MaxInt64, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")},
	})
	defer set.Close()
	n := 0
	for set.Next() {
		n++
		ls := set.At().Labels
		if ls.Get("prometheus") != "monitoring/k8s" || ls.Get("prometheus_replica") != operatorPod || len(set.At().Chunks) == 0 {
			return fmt.Errorf("series %s with %d chunks", ls, len(set.At().Chunks))
		}
	}
	if err := set.Err(); err != nil || n != 1 {
		return fmt.Errorf("%d series, error %w", n, err)
	}
	return nil
}

// rules returns the warnings of an answer with the alert of the rule file.
func (s *operatorSite) rules() (storeapi.Warnings, error) {
	groups, ws, err := s.client.Rules(s.t.Context(), &storeapi.RulesRequest{Type: storeapi.RuleAlert, Partial: storeapi.PartialWarn})
	if err != nil {
		return nil, err
	}
	if len(groups) != 1 || len(groups[0].Rules[0].Alerts) != 1 {
		return nil, fmt.Errorf("groups of rules: %+v", groups)
	}
	return ws, nil
}

// Each argument list of the operator starts a sidecar that answers the probes and reads.
func TestOperator_ArgumentsWork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain.args", "objectstorage.args", "tls.args", "podip.args"} {
		t.Run(name, func(t *testing.T) {
			s := newOperatorSite(t, name == "tls.args")
			s.startSidecar(s.args(name))
			// The containers of a pod start at once, and Prometheus may take long.
			eventually(t, time.Minute, func() error { return s.probe("/-/healthy") })
			require.Error(t, s.probe("/-/ready"))
			s.startPrometheus()
			eventually(t, time.Minute, func() error { return s.probe("/-/ready") })
			eventually(t, time.Minute, s.samples)
			require.NoError(t, s.client.Refresh(t.Context()))
			info := s.client.Info()
			require.Equal(t, []string{`{prometheus="monitoring/k8s", prometheus_replica="` + operatorPod + `"}`}, []string{info.LabelSets[0].String()})
			eventually(t, time.Minute, func() error { _, err := s.rules(); return err })
			if name == "objectstorage.args" {
				s.killPrometheus()
			}
			s.sidecar.Signal(syscall.SIGTERM)
			code, err := s.sidecar.Wait(30 * time.Second)
			require.NoError(t, err)
			require.Zero(t, code, s.sidecar.Tail(10))
			if name == "plain.args" {
				require.NoFileExists(t, s.dir+"/prometheus/thanos.shipper.json")
			} else {
				require.FileExists(t, s.dir+"/prometheus/thanos.shipper.json")
			}
		})
	}
}

// killPrometheus kills Prometheus: the last known state is served and marked as such,
// and after the restart the current one.
func (s *operatorSite) killPrometheus() {
	t := s.t
	ws, err := s.rules()
	require.NoError(t, err)
	require.Empty(t, ws)
	eventually(t, time.Minute, func() error {
		targets, _, err := s.client.Targets(t.Context(), &storeapi.TargetsRequest{})
		if err == nil && len(targets.Active) != 1 {
			err = fmt.Errorf("targets: %+v", targets)
		}
		return err
	})
	s.prom.Kill()
	eventually(t, time.Minute, func() error {
		ws, err := s.rules()
		if err == nil && (len(ws) != 1 || !strings.Contains(ws[0].Text, "last known state of 20")) {
			err = fmt.Errorf("warnings: %v", ws)
		}
		return err
	})
	// An answer is current for some seconds.
	eventually(t, time.Minute, func() error {
		targets, wt, err := s.client.Targets(t.Context(), &storeapi.TargetsRequest{State: storeapi.TargetActive, Partial: storeapi.PartialWarn})
		require.NoError(t, err, "all targets are known, so the active ones are")
		stats, ws, err := s.client.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 5, Partial: storeapi.PartialWarn})
		require.NoError(t, err)
		require.Contains(t, stats, "", "read when the sidecar started")
		// The answer that is current may be one from before the server discovered its target.
		if len(targets.Active) != 1 || len(wt) != 1 || len(ws) != 1 {
			return fmt.Errorf("targets: %v, warnings: %v, %v", targets.Active, wt, ws)
		}
		return nil
	})
	require.NoError(t, s.probe("/-/healthy"), "the kubelet must not restart it")
	_, _, err = s.client.Rules(t.Context(), &storeapi.RulesRequest{Partial: storeapi.PartialAbort})
	require.ErrorContains(t, err, "last known state", "a request that wants all or nothing")

	s.startPrometheus()
	eventually(t, time.Minute, func() error { return s.probe("/-/ready") })
	eventually(t, time.Minute, func() error {
		ws, err := s.rules()
		if err == nil && len(ws) > 0 {
			err = fmt.Errorf("warnings: %v", ws)
		}
		return err
	})
	require.NoError(t, s.samples())
}
