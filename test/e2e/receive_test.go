package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// One of three receive nodes is killed under load: no client sees an error, and
// every acknowledged sample is returned.
func TestReceiveNodeKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Endpoints = []string{"receive-1", "receive-2", "receive-3"}
	require.NoError(t, s.Start("s3", "receive-1", "receive-2", "receive-3", "query"))
	l := newLedger("killed_total", 50)
	survivors := []string{
		"http://" + s.Addr("receive-1/write") + "/api/v1/receive",
		"http://" + s.Addr("receive-3/write") + "/api/v1/push",
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.run(stop, 20*time.Millisecond, func() []string { return survivors })
	}()
	time.Sleep(3 * time.Second)
	before := l.count()
	s.Proc("receive-2").Kill()
	time.Sleep(6 * time.Second)
	during := l.count() - before
	require.NoError(t, s.Start("receive-2"))
	time.Sleep(2 * time.Second)
	close(stop)
	<-done

	require.Empty(t, l.failed, "errors that a client saw")
	require.Greater(t, before, 1000)
	require.Greater(t, during, 1000, "writes went on while the node was away")
	eventually(t, time.Minute, func() error { return l.check(harness.API{Base: s.URL("query")}) })
	t.Logf("%d samples acknowledged, %d of them while one node was away", l.count(), during)
}
