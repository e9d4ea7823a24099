package e2e

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// ring is a site of receive nodes under load.
type ring struct {
	*harness.Site
	t      *testing.T
	ledger *ledger
	urls   []string
	stop   chan struct{}
	done   sync.WaitGroup
}

// underLoad starts three nodes, and writes until checked. names are the nodes
// that clients write to.
func underLoad(t *testing.T, metric string, names ...string) *ring {
	t.Helper()
	r := newRing(t, metric, names...)
	r.load()
	return r
}

func newRing(t *testing.T, metric string, names ...string) *ring {
	t.Helper()
	s := newSite(t)
	s.Endpoints = []string{"receive-1", "receive-2", "receive-3"}
	for _, n := range s.Endpoints {
		// Read the file often, beside its notification.
		s.Extra[n] = []string{"--receive.hashrings-file-refresh-interval=1s"}
	}
	r := &ring{Site: s, t: t, ledger: newLedger(metric, 20), stop: make(chan struct{})}
	r.ledger.retry = true
	for _, n := range names {
		r.urls = append(r.urls, "http://"+s.Addr(n+"/write")+"/api/v1/receive")
	}
	return r
}

// load starts the nodes and the writer.
func (r *ring) load() {
	r.t.Helper()
	require.NoError(r.t, r.Start("s3", "receive-1", "receive-2", "receive-3"))
	for range 2 {
		r.done.Go(func() { r.ledger.run(r.stop, 40*time.Millisecond, func() []string { return r.urls }) })
	}
}

// check ends the load and compares what is stored with what was acknowledged.
func (r *ring) check() {
	r.t.Helper()
	close(r.stop)
	r.done.Wait()
	require.Empty(r.t, r.ledger.failed, "errors that a Prometheus would not retry")
	require.Greater(r.t, r.ledger.count(), 1000)
	require.NoError(r.t, r.Start("query"))
	eventually(r.t, time.Minute, func() error { return r.ledger.check(harness.API{Base: r.URL("query")}) })
	r.t.Logf("%d samples acknowledged, %d requests sent again", r.ledger.count(), len(r.ledger.retried))
}

// progress waits until n more samples have been acknowledged.
func (r *ring) progress(n int) {
	r.t.Helper()
	from := r.ledger.count()
	eventually(r.t, time.Minute, func() error {
		if got := r.ledger.count() - from; got < n {
			return fmt.Errorf("only %d more samples were acknowledged; last errors: %s", got, r.ledger.lastErrors())
		}
		return nil
	})
}

func (l *ledger) lastErrors() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append(append([]string{}, l.retried...), l.failed...)
	return strings.Join(all[max(0, len(all)-3):], "; ")
}

// kill -9 of every node in turn, at any time under load.
func TestReceiveEveryNodeKilled(t *testing.T) {
	t.Parallel()
	r := underLoad(t, "each_killed_total", "receive-1", "receive-2", "receive-3")
	for _, n := range []string{"receive-1", "receive-2", "receive-3", "receive-1"} {
		r.progress(500)
		r.Proc(n).Kill()
		r.progress(500)
		require.NoError(t, r.Start(n))
	}
	r.progress(500)
	r.check()
}

// A rolling restart: each node stops in order and comes back.
func TestReceiveRollingRestart(t *testing.T) {
	t.Parallel()
	r := underLoad(t, "rolled_total", "receive-1", "receive-2", "receive-3")
	for _, n := range []string{"receive-1", "receive-2", "receive-3"} {
		r.progress(300)
		require.NoError(t, r.Proc(n).Stop(30*time.Second))
		r.progress(300)
		require.NoError(t, r.Start(n))
	}
	r.progress(300)
	r.check()
}

// One node hangs (SIGSTOP) for a minute: the others accept all writes.
func TestReceiveNodeStopped(t *testing.T) {
	t.Parallel()
	r := underLoad(t, "stopped_total", "receive-1", "receive-3")
	r.progress(500)
	r.Proc("receive-2").Signal(syscall.SIGSTOP)
	before := r.ledger.count()
	time.Sleep(time.Minute)
	during := r.ledger.count() - before
	r.Proc("receive-2").Signal(syscall.SIGCONT)
	require.Greater(t, during, 10_000, "writes went on while a node hung")
	r.progress(500)
	r.check()
}

// The ring grows from three nodes to five and shrinks again under load.
func TestReceiveRingChanges(t *testing.T) {
	t.Parallel()
	r := underLoad(t, "resized_total", "receive-1", "receive-2", "receive-3")
	r.Endpoints = append(r.Endpoints, "receive-4", "receive-5")
	r.progress(500)
	require.NoError(t, r.SetRing("receive-1", "receive-2", "receive-3", "receive-4", "receive-5"))
	require.NoError(t, r.Start("receive-4", "receive-5"))
	r.progress(5000)
	for _, n := range []string{"receive-4", "receive-5"} {
		require.DirExists(t, r.Path(n, "default-tenant"), "the new nodes take their share")
	}
	require.NoError(t, r.SetRing("receive-1", "receive-2", "receive-3"))
	r.progress(2000)
	r.check()
}
