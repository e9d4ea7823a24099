package multitsdb

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Progress is by bytes of the logs: those of open tenants, and of one that is
// being opened the segments that were read.
func TestReplayProgress(t *testing.T) {
	var r replay
	require.Zero(t, r.progress())
	for id, size := range map[string]int{"large": 3_000_000, "small": 1_000_000} {
		dir := filepath.Join(t.TempDir(), id)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "wal", "checkpoint.00000001"), 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", "checkpoint.00000001", "00000000"), make([]byte, size/2), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", "00000002"), make([]byte, size/2), 0o600))
		r.expect(id, dir)
	}
	require.Zero(t, r.progress())
	s := r.begin("large").Head.WALReplayStatus
	require.Zero(t, r.progress())
	s.Min, s.Max, s.Current = 2, 5, 4
	require.InDelta(t, 0.75*0.5, r.progress(), 0.001)
	r.end("large")
	require.InDelta(t, 0.75, r.progress(), 0.001)
	r.begin("small")
	r.end("small")
	require.Equal(t, 1.0, r.progress())
	r.begin("first write, later")
	require.Equal(t, 1.0, r.progress())
}
