package e2e

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// Another Prometheus scrapes /federate of the querier and stores its series: each
// target once, under the labels that the querier shows.
func TestFederate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Endpoints = []string{"sidecar-eu-a", "sidecar-eu-b"}
	require.NoError(t, s.Start("node", "s3", "prometheus-eu-a", "prometheus-eu-b", "sidecar-eu-a", "sidecar-eu-b", "query"))
	dedup := harness.API{Base: s.URL("query")}
	eventually(t, time.Minute, func() error { return expect(dedup, `count(up{job="node"})`, "1") })

	addr, err := harness.Port(strings.Split(s.Addr("query"), ":")[0])
	require.NoError(t, err)
	config := fmt.Sprintf(`
global:
  scrape_interval: 2s
scrape_configs:
  - job_name: federate
    honor_labels: true
    metrics_path: /federate
    params:
      match[]: ['up{job="node"}', 'node_load1', '{__name__=~"node_memory_Mem.*"}']
    static_configs:
      - targets: [%q]
`, s.Addr("query"))
	require.NoError(t, os.WriteFile(s.Path("global.yml"), []byte(config), 0o644))
	p, err := harness.Start(s.Dir, "prometheus-global", bin.Prometheus, "--config.file="+s.Path("global.yml"),
		"--storage.tsdb.path="+s.Path("global"), "--web.listen-address="+addr)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop(30*time.Second)) })
	require.NoError(t, harness.WaitHTTP(p, "http://"+addr+"/-/ready", time.Minute))

	global := harness.API{Base: "http://" + addr}
	eventually(t, time.Minute, func() error { return expect(global, `count(up{job="node"})`, "1") })
	eventually(t, time.Minute, func() error { return expect(global, `count_over_time(up{job="node"}[1m]) > bool 3`, "1") })
	// A scrape that takes longer than its two seconds on a slow host fails, and ends the series
	// until the next one.
	want := map[string]string{"__name__": "up", "job": "node", "cluster": "eu", "instance": s.Addr("node")}
	eventually(t, time.Minute, func() error {
		ans, err := global.Instant(`up{job="node"}`, time.Time{})
		if err == nil && (len(ans.Series) != 1 || !maps.Equal(want, ans.Series[0].Labels)) {
			err = fmt.Errorf("the series are %v", ans.Series)
		}
		return err
	})
	for _, query := range []string{`up{job="federate"}`, `count(node_load1)`, `count(node_memory_MemTotal_bytes)`} {
		eventually(t, time.Minute, func() error { return expect(global, query, "1") })
	}
}
