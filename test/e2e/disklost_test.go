package e2e

import (
	"net/http"
	"os"
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
	lose("receive-2")
	time.Sleep(2 * time.Second)
	close(stop)
	<-done
	require.Empty(t, l.failed, "errors that a client saw")
	require.Greater(t, l.count(), 1000)
	api := harness.API{Base: s.URL("query")}
	eventually(t, time.Minute, func() error { return l.check(api) })

	for _, name := range []string{"receive-1", "receive-3"} {
		resp, err := http.Post(s.URL(name)+"/-/flush", "", nil)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	lose("receive-1")
	lose("receive-3")
	eventually(t, time.Minute, func() error { return l.check(api) })
}
