package sidecar

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// withBlocks makes a server with blocks of one second and a head: 100 samples of one
// series, 100 ms apart.
func withBlocks(t *testing.T) *promtest.Server {
	t.Helper()
	p := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), BlockDuration: 1000})
	p.Append(t, labels.FromStrings("__name__", "up"), 1000, 100, make([]float64, 100)...)
	require.NoError(t, p.DB.Compact(t.Context()))
	require.NotEmpty(t, p.DB.Blocks())
	return p
}

// count returns the samples of an answer and its warnings.
func count(t *testing.T, s *Sidecar) (samples int, ws storeapi.Warnings) {
	t.Helper()
	r := forever(eq("__name__", "up"))
	set := s.store.Select(t.Context(), r)
	var chunks []storeapi.Chunk
	for set.Next() {
		chunks = append(chunks, set.At().Chunks...)
	}
	require.NoError(t, set.Err())
	samples, ws = len(storetest.Decode(t, chunks, r.MinTime, r.MaxTime)), set.Warnings()
	require.NoError(t, set.Close())
	return samples, ws
}

// A data directory that does not exist is not made. All is read through Prometheus, and
// directly from the time on when the directory appears.
func TestRun_DataDirectoryAppearsLater(t *testing.T) {
	p := withBlocks(t)
	dir := filepath.Join(t.TempDir(), "data")
	s, stop := start(t, parse(t, "--prometheus.url="+p.URL().String(), "--tsdb.path="+dir, "--prometheus.get_config_interval=20ms"), Deps{})
	require.Eventually(t, func() bool { return s.Ready() == nil }, 10*time.Second, 10*time.Millisecond)
	n, ws := count(t, s)
	require.Equal(t, 100, n)
	require.Empty(t, ws)
	require.NoDirExists(t, dir)

	require.NoError(t, os.Symlink(p.Dir, dir))
	require.Eventually(t, func() bool { return testutil.ToFloat64(s.metrics.directBlocks) > 0 }, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "thanos", "outage", "external-labels.json"))
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	n, _ = count(t, s)
	require.Equal(t, 100, n)

	require.NoError(t, os.Remove(dir))
	require.Eventually(t, func() bool { return testutil.ToFloat64(s.metrics.directBlocks) == 0 }, 10*time.Second, 10*time.Millisecond)
	n, _ = count(t, s)
	require.Equal(t, 100, n)
	require.NoError(t, stop())
	require.NoDirExists(t, dir)
}

// In a data directory that cannot be written, blocks are read directly, also while
// Prometheus is down. The head is then read only with a directory elsewhere.
func TestRun_DataDirectoryIsReadOnly(t *testing.T) {
	p := withBlocks(t)
	require.NoError(t, os.WriteFile(filepath.Join(p.Dir, "thanos"), nil, 0o600)) // no directory can be made here
	run := func(check func(n int, ws storeapi.Warnings), args ...string) {
		t.Helper()
		p.SetDown(false)
		s, stop := start(t, parse(t, append(args, "--prometheus.url="+p.URL().String(), "--tsdb.path="+p.Dir)...), Deps{})
		require.Eventually(t, func() bool { return testutil.ToFloat64(s.metrics.directBlocks) > 0 && s.Ready() == nil }, 10*time.Second, 10*time.Millisecond)
		n, ws := count(t, s)
		require.Equal(t, 100, n)
		require.Empty(t, ws)
		p.SetDown(true)
		check(count(t, s))
		require.NoError(t, stop())
	}
	run(func(n int, ws storeapi.Warnings) {
		require.Positive(t, n)
		require.Less(t, n, 100)
		require.Len(t, ws, 1)
		require.Contains(t, ws[0].Text, "give one that can be written by --tsdb.outage-dir")
	})
	run(func(n int, ws storeapi.Warnings) {
		require.Equal(t, 100, n)
		require.Empty(t, ws)
	}, "--tsdb.outage-dir="+t.TempDir())
}
