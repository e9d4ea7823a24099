package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// A receive node loses its disk while clients write, and starts again with an empty one: no
// acknowledged sample is missing. After the others have uploaded their heads, another node
// may lose its disk, too.
func TestReceiveDiskLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Endpoints = []string{"receive-1", "receive-2", "receive-3", "store"}
	require.NoError(t, s.Start("s3", "receive-1", "receive-2", "receive-3", "store", "query"))
	l := newLedger("disk_lost_total", 50)
	urls := []string{"http://" + s.Addr("receive-1/write") + "/api/v1/receive"}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.run(stop, 20*time.Millisecond, func() []string { return urls })
	}()
	time.Sleep(2 * time.Second)
	lose := func(name string) {
		s.Proc(name).Kill()
		require.NoError(t, os.RemoveAll(s.Path(name)))
		require.NoError(t, s.Start(name))
	}
	l.reach(t, 500)
	lose("receive-2")
	after := l.count()
	time.Sleep(2 * time.Second)
	l.reach(t, after+500)
	close(stop)
	<-done
	require.Empty(t, l.failed, "errors that a client saw")
	api := harness.API{Base: s.URL("query")}
	eventually(t, time.Minute, func() error { return l.check(api) })

	for _, name := range []string{"receive-1", "receive-3"} {
		flush(t, s.URL(name))
	}
	lose("receive-1")
	lose("receive-3")
	eventually(t, time.Minute, func() error { return l.check(api) })
}

// flush makes a receiver write its heads to blocks and upload them.
func flush(t *testing.T, base string) {
	t.Helper()
	resp, err := http.Post(base+"/-/flush", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// The bucket is lost. A receiver that starts without its list of shipped blocks ships all that
// it still has again.
func TestBucketLost_ReceiverShipsAgain(t *testing.T) {
	t.Parallel()
	dir, host := t.TempDir(), harness.Host()
	ports, err := harness.Ports(host, 2)
	require.NoError(t, err)
	start := func() *harness.Process {
		p, err := harness.Start(dir, "receive", bin.Hindsight, "receive", "--tsdb.path="+dir+"/data", "--http-address="+ports[0],
			"--grpc-address="+host+":0", "--remote-write.address="+ports[1], "--objstore.config=type: FILESYSTEM\nconfig: {directory: "+dir+"/bucket}")
		require.NoError(t, err)
		require.NoError(t, harness.WaitHTTP(p, "http://"+ports[0]+"/-/ready", 30*time.Second))
		return p
	}
	blocks := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "bucket", "*", "meta.json"))
		require.NoError(t, err)
		return found
	}
	p := start()
	l := newLedger("bucket_lost_total", 10)
	l.send(http.DefaultClient, l.batch(time.Now().UnixMilli()), func() string { return "http://" + ports[1] + "/api/v1/receive" })
	require.Empty(t, l.failed)
	flush(t, "http://"+ports[0])
	before := blocks()
	require.Len(t, before, 1)

	require.NoError(t, p.Stop(30*time.Second))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "bucket")))
	require.NoError(t, os.Remove(filepath.Join(dir, "data", "default-tenant", "thanos.shipper.json")))
	p = start()
	flush(t, "http://"+ports[0]) // does not wait for the next pass
	require.Equal(t, before, blocks())
	require.NoError(t, p.Stop(30*time.Second))
}
