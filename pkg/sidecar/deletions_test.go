package sidecar

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// A sidecar with a bucket hides the samples of deletion requests, which see the external
// labels; one that reads no requests answers with all of them.
func TestStore_HidesDeletedSeries(t *testing.T) {
	p := promtest.New(t, promtest.Options{
		ExternalLabels: labels.FromStrings("cluster", "eu"), Flags: map[string]string{minBlockFlag: "2h", maxBlockFlag: "2h"},
	})
	for _, user := range []string{"alice", "bob"} {
		p.Append(t, labels.FromStrings("__name__", "up", "user", user), 1000, 100, 1, 2, 3)
	}
	bkt := bucket.NewMemory()
	for _, selector := range []string{`{user="bob",cluster="eu"}`, `{user="alice",cluster="us"}`} {
		c, err := deletion.New(deletion.Options{Selectors: []string{selector}, MinTime: deletion.Earliest, MaxTime: deletion.Latest, Keep: time.Hour}, time.Now())
		require.NoError(t, err)
		require.NoError(t, deletion.Put(t.Context(), bkt, c))
	}
	open := func(interval string) (*Sidecar, func() error) {
		s, stop := start(t, parse(t, "--prometheus.url="+p.URL().String(), "--tsdb.path="+p.Dir, "--deletions.poll-interval="+interval), Deps{Bucket: bkt})
		require.Eventually(t, func() bool { return s.Ready() == nil }, 10*time.Second, 10*time.Millisecond)
		return s, stop
	}
	store := func(s *Sidecar) storeapi.Store {
		conn := storetest.Dial(t, func(srv *grpc.Server) { s.RegisterGRPC(srv) }, storerpc.ServerOptions()...)
		return storerpc.NewClient(conn, "sidecar")
	}
	alice := []string{`{__name__="up", cluster="eu", user="alice"} 1000-1200`}
	hiding, stop := open("20ms")
	require.Eventually(t, hiding.deletions.Polled, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, alice, list(t, store(hiding).Select(t.Context(), forever(eq("__name__", "up")))))
	names := forever(eq("__name__", "up"))
	names.SkipChunks = true
	require.Equal(t, []string{`{__name__="up", cluster="eu", user="alice"}`}, list(t, store(hiding).Select(t.Context(), names)))

	require.NoError(t, stop())
	off, _ := open("0s")
	require.Nil(t, off.deletions)
	require.Len(t, list(t, store(off).Select(t.Context(), forever(eq("__name__", "up")))), 2)
}
