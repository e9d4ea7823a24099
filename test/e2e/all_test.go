package e2e

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// hindsight all accepts writes, serves its own metrics within a minute, keeps every
// acknowledged sample after kill -9, and stops in order.
func TestAllInOne(t *testing.T) {
	t.Parallel()
	dir, host := t.TempDir(), harness.Host()
	addr, err := harness.Port(host)
	require.NoError(t, err)
	base := "http://" + addr
	start := func() *harness.Process {
		p, err := harness.Start(dir, "all", bin.Hindsight, "all", "--data-dir="+dir+"/data",
			"--http-address="+addr, "--grpc-address="+host+":0")
		require.NoError(t, err)
		require.NoError(t, harness.WaitHTTP(p, base+"/-/ready", 30*time.Second))
		return p
	}
	p := start()
	out := p.Output()
	for _, want := range []string{base, "remote_write", "curl"} {
		require.Contains(t, out, want, "what a newcomer needs is printed")
	}
	api := harness.API{Base: base}
	eventually(t, time.Minute, func() error { return expect(api, `count(hindsight_build_info)`, "1") })

	l := newLedger("all_total", 100)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.run(stop, 10*time.Millisecond, func() []string { return []string{base + "/api/v1/receive", base + "/api/v1/push"} })
	}()
	time.Sleep(4 * time.Second)
	l.reach(t, 1000)
	p.Kill()
	close(stop)
	<-done
	require.Empty(t, l.failed)

	p = start()
	sendMetadata(t, base)
	require.NoError(t, l.check(api))
	at := time.Now()
	before, err := api.Instant(`sum by (series) (all_total)`, at)
	require.NoError(t, err)
	require.Len(t, before.Series, 100)
	require.NoError(t, p.Stop(10*time.Second))
	require.NotContains(t, strings.ToLower(p.Output()), "panic")

	p = start()
	after, err := api.Instant(`sum by (series) (all_total)`, at)
	require.NoError(t, err)
	require.Equal(t, before.Series, after.Series, "the same query gives the same answer after a restart")
	require.NoError(t, l.check(api))
	require.NoError(t, p.Stop(10*time.Second))
}

// sendMetadata writes the metadata of a metric and reads it back.
func sendMetadata(t *testing.T, base string) {
	t.Helper()
	require.NoError(t, harness.Writer{URL: base + "/api/v1/push"}.WriteMetadata(prompb.MetricMetadata{
		Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "all_total", Help: "Written by the test.",
	}))
	var got map[string][]struct{ Type, Help string }
	require.NoError(t, harness.API{Base: base}.JSON("/api/v1/metadata", url.Values{"metric": {"all_total"}}, &got))
	require.Len(t, got["all_total"], 1)
	require.Equal(t, "counter", got["all_total"][0].Type)
	require.Equal(t, "Written by the test.", got["all_total"][0].Help)
}
