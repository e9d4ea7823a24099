package dashboards

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// readers are a gateway and a querier.
type readers struct {
	store, query *harness.Process
	url          string
}

// startThanos starts a gateway and a querier of Thanos over the same bucket.
func (s *site) startThanos() *readers {
	bin, err := harness.Thanos(os.Stderr)
	require.NoError(s.b, err)
	ports, err := harness.Ports("127.0.0.1", 4)
	require.NoError(s.b, err)
	require.NoError(s.b, os.RemoveAll(filepath.Join(s.dir, "thanos")))
	r := &readers{url: "http://" + ports[2]}
	r.store, err = harness.Start(s.dir, "thanos-store", bin, "store", "--data-dir="+filepath.Join(s.dir, "thanos"),
		"--http-address="+ports[0], "--grpc-address="+ports[1], "--objstore.config-file="+filepath.Join(s.dir, "bucket.yml"))
	require.NoError(s.b, err)
	s.b.Cleanup(r.store.Kill)
	require.NoError(s.b, harness.WaitHTTP(r.store, "http://"+ports[0]+"/-/ready", time.Minute))
	r.query, err = harness.Start(s.dir, "thanos-query", bin, "query", "--http-address="+ports[2], "--grpc-address="+ports[3],
		"--endpoint="+ports[1], "--query.replica-label=replica")
	require.NoError(s.b, err)
	s.b.Cleanup(r.query.Kill)
	require.NoError(s.b, harness.WaitHTTP(r.query, r.url+"/-/ready", time.Minute))
	require.Eventually(s.b, func() bool {
		body, err := get(r.url+"/api/v1/labels", nil)
		return err == nil && strings.Contains(body, "cluster")
	}, time.Minute, 50*time.Millisecond, "the querier sees the gateway")
	return r
}

// BenchmarkThanos runs the list of queries here and on Thanos in turn, over one bucket: CPU
// of gateway and querier, warm, the requests and bytes of the first run, and the peaks of
// memory after the whole list. It needs HINDSIGHT_THANOS=1, because it builds Thanos.
func BenchmarkThanos(b *testing.B) {
	if os.Getenv("HINDSIGHT_THANOS") == "" {
		b.Skip("HINDSIGHT_THANOS=1 runs it")
	}
	s := newSite(b)
	theirs := s.startThanos()
	ours := &readers{s.store, s.query, s.queryURL}
	all := append(append(heavy(), more()...), instant()...)
	for _, q := range all {
		b.Run(q.name, func(b *testing.B) { s.beside(b, q, ours, theirs) })
	}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
		}
		for name, p := range map[string]*harness.Process{
			"querier": ours.query, "gateway": ours.store, "thanos-querier": theirs.query, "thanos-gateway": theirs.store,
		} {
			peak, err := p.Peak()
			require.NoError(b, err)
			b.ReportMetric(float64(peak)/(1<<20), name+"-peak-MiB")
		}
	})
}

// beside measures one query on both, cold and then warm: here after the runs in which the
// gateway keeps chunks as columns.
func (s *site) beside(b *testing.B, q dashboardQuery, ours, theirs *readers) {
	times := 1
	if q.span == 0 {
		times = 20
	}
	cold := func(r *readers) (requests, mib float64) {
		before, bytes := s.proxy.gets.Load()+s.proxy.heads.Load(), s.proxy.bytes.Load()
		s.run(r.url, q)
		return float64(s.proxy.gets.Load() + s.proxy.heads.Load() - before), float64(s.proxy.bytes.Load()-bytes) / (1 << 20)
	}
	var spent, took [2]float64
	n := 0
	for b.Loop() {
		if n++; n == 1 {
			for name, r := range map[string]*readers{"": ours, "thanos-": theirs} {
				requests, mib := cold(r)
				b.ReportMetric(requests, name+"first-requests")
				b.ReportMetric(mib, name+"first-MiB")
			}
			before := cpu(b, ours.store, ours.query)
			for range keepingRuns { // Thanos keeps nothing
				s.run(ours.url, q)
			}
			b.ReportMetric(1000*(cpu(b, ours.store, ours.query)-before)/keepingRuns, "keeping-cpu-ms")
		}
		for i, r := range []*readers{ours, theirs} {
			before, begin := cpu(b, r.store, r.query), time.Now()
			for range times {
				s.run(r.url, q)
			}
			took[i] += time.Since(begin).Seconds()
			spent[i] += cpu(b, r.store, r.query) - before
		}
	}
	b.ReportMetric(spent[0]/spent[1], "of-thanos")
	for i, name := range []string{"", "thanos-"} {
		b.ReportMetric(1000*spent[i]/float64(n*times), name+"cpu-ms")
		b.ReportMetric(1000*took[i]/float64(n*times), name+"latency-ms")
	}
}
