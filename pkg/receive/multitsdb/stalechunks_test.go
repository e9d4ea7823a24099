package multitsdb

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A restart finds chunks of out-of-order samples in chunks_head that are in blocks
// already. If the TSDB had loaded them, the next compaction would note their place
// as the last one of which the chunks are in blocks, delete their file, and number
// the files from 1 again: new chunks before that place would be left out of
// answers and deleted without being compacted.
func TestOutOfOrderSamples_AreKeptAfterARestartWithChunksOfBlocks(t *testing.T) {
	dir := t.TempDir()
	open := func() *DB {
		return openDB(t, dir, func(c *Config) { c.OutOfOrderWindow = 24 * time.Hour })
	}
	d := open()
	now := time.Now().Add(-time.Hour).UnixMilli()
	want := map[sampleID]bool{}
	put := func(series string, ts int64) {
		require.NoError(t, write(t, d, "a", float(series, ts, 1)))
		want[sampleID{series, ts}] = true
	}
	// More out-of-order samples than a chunk in memory holds, so that one is written.
	outOfOrder := func(series string) {
		now += 200_000
		put(series, now)
		for i := range int64(80) {
			put(series, now-100_000+i)
		}
	}
	outOfOrder("x")
	outOfOrder("y")
	require.NoError(t, d.Flush(t.Context(), "a"))

	for range 2 {
		require.NoError(t, d.Close(t.Context()))
		d = open()
		require.NoError(t, d.Flush(t.Context(), "a"))
		require.Zero(t, lost(t, d, want), "after a restart")
		outOfOrder("z")
		require.Zero(t, lost(t, d, want), "samples in memory")
		require.NoError(t, d.Flush(t.Context(), "a"))
		require.Zero(t, lost(t, d, want), "after a flush")
	}
}
