package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// Prometheus opens the directory of a tenant after the receiver was killed: all samples are
// there. So may a receiver of Thanos, which opens it by the same TSDB.
func TestReceiveDirectory_OpensInPrometheus(t *testing.T) {
	t.Parallel()
	dir, host := t.TempDir(), harness.Host()
	ports, err := harness.Ports(host, 3)
	require.NoError(t, err)
	p, err := harness.Start(dir, "receive", bin.Hindsight, "receive", "--tsdb.path="+dir+"/data", "--http-address="+ports[0],
		"--grpc-address="+host+":0", "--remote-write.address="+ports[1])
	require.NoError(t, err)
	require.NoError(t, harness.WaitHTTP(p, "http://"+ports[0]+"/-/ready", 30*time.Second))
	l := newLedger("directory_total", 20)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.run(stop, 10*time.Millisecond, func() []string { return []string{"http://" + ports[1] + "/api/v1/receive"} })
	}()
	time.Sleep(2 * time.Second)
	l.reach(t, 500)
	close(stop)
	<-done
	p.Kill()
	require.Empty(t, l.failed)

	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, nil, 0o600))
	prom, err := harness.Start(dir, "prometheus", bin.Prometheus, "--config.file="+config,
		"--storage.tsdb.path="+filepath.Join(dir, "data", "default-tenant"), "--web.listen-address="+ports[2], "--log.level=warn")
	require.NoError(t, err)
	defer prom.Kill()
	require.NoError(t, harness.WaitHTTP(prom, "http://"+ports[2]+"/-/ready", time.Minute))
	require.NoError(t, l.check(harness.API{Base: "http://" + ports[2]}))
}
