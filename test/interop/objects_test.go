package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// s3 starts an S3 server with one bucket, whose objects are the files of the returned directory.
func (s *site) s3() (bucket, dir string) {
	s.Helper()
	at := s.address()
	dir = s.mkdir("data/bucket")
	p := s.start("s3", bin.S3, "--access", harness.S3AccessKey, "--secret", harness.S3SecretKey, "--port", at.http, "--quiet", "--health", "/health",
		"posix", "--sidecar", s.mkdir("meta"), s.path("data"))
	require.NoError(s, harness.WaitHTTP(p, at.url()+"/health", time.Minute))
	return "--objstore.config-file=" + s.file("s3.yml", fmt.Sprintf("type: S3\nconfig: {bucket: bucket, endpoint: %q, insecure: true, access_key: %s, secret_key: %s}\n",
		at.http, harness.S3AccessKey, harness.S3SecretKey)), dir
}

// The objects that only this program writes (heads of Prometheus, claims, leases, index headers,
// requests to delete series, columns of blocks) do not disturb Thanos, which leaves them alone.
func TestBucket_OwnObjectsDoNotDisturbThanos(t *testing.T) {
	s := newSite(t)
	bucket, dir := s.s3()
	app := target(t, s.host)
	prom := s.prometheus("prometheus", s.pairConfig("a", app, ""))
	local := s.mkdir("local")
	for i := range int64(5) {
		writeBlock(t, local, epoch()+i*2*hour, epoch()+(i+1)*2*hour)
	}
	writeBlock(t, local, epoch()+2*day, epoch()+2*day+2*hour)
	s.upload(hindsight, bucket, local, `cluster="us"`, `replica="a"`)
	s.run(hindsight, "sidecar", "sidecar", bucket, "--tsdb.path="+s.path("prometheus"), "--prometheus.url="+prom.url(), "--shipper.head-interval=1s")
	s.run(hindsight, "compact", "compact", bucket, "--data-dir="+s.mkdir("compact"), "--wait", "--consistency-delay=0s", "--wait-interval=1s")
	s.call(hindsight, "tools", "bucket", "delete-series", bucket, "--match=temperature{room=\"2\"}", "--details=test", "--yes")
	own := func() (out []string) {
		for _, o := range objectsOf(t, dir) {
			if strings.HasPrefix(o, "/hindsight/") {
				name, _, _ := strings.Cut(o, " ")
				out = append(out, name)
			}
		}
		return out
	}
	for _, kind := range []string{"heads-v1", "claims-v1", "leases", "index-headers-v1", "deletions"} {
		eventually(t, 30*time.Second, func() error {
			if !strings.Contains(strings.Join(own(), "\n"), "/hindsight/"+kind) {
				return fmt.Errorf("no object of %s: %v", kind, own())
			}
			return nil
		})
	}
	for _, strategy := range []string{"concurrent", "recursive"} {
		s.compact(thanos, bucket, "thanos-compact", "--block-discovery-strategy="+strategy)
		n := s.run(thanos, "store", "thanos-store-"+strategy, bucket, "--data-dir="+s.mkdir("thanos-store-"+strategy), "--block-discovery-strategy="+strategy)
		q := s.querier(thanos, "thanos-query-"+strategy, []*node{n})
		require.Contains(t, q.put(t, ask("/api/v1/label/room/values")).raw, `["0"`)
	}
	require.NotEmpty(t, columnsOf(t, dir))
	s.tools(thanos, bucket, len(metasOf(t, dir)))
	require.NotEmpty(t, columnsOf(t, dir))
	for _, kind := range []string{"heads-v1", "claims-v1", "leases", "index-headers-v1", "deletions"} {
		require.Contains(t, strings.Join(own(), "\n"), "/hindsight/"+kind)
	}
}
