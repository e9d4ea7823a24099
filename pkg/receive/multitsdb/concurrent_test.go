package multitsdb

import (
	"fmt"
	"math/rand"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// Writes of the same series at the same time, as a slow replica gets them, are all there after
// a restart: the log has each series before its samples, and samples in the order in which
// the head took them.
func TestConcurrentWrites_AreKeptByARestart(t *testing.T) {
	const writers, rounds, series, times = 8, 40, 30, 6
	dir := t.TempDir()
	d := openDB(t, dir, func(c *Config) { c.NoLockfile = true })
	base := time.Now().Add(-time.Minute).UnixMilli()
	want := map[sampleID]bool{}
	for round := range rounds {
		batches := make([][]prompb.TimeSeries, writers*times)
		for i := range batches {
			ts := base + int64(round*1000+i)
			for s := range series {
				name := fmt.Sprintf("s%d_%d", round, s) // new ones in each round
				batches[i] = append(batches[i], float(name, ts, float64(ts)))
				want[sampleID{name, ts}] = true
			}
		}
		rand.New(rand.NewSource(int64(round))).Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for _, b := range batches[w*times : (w+1)*times] {
					if err := write(t, d, "a", b...); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	require.Zero(t, lost(t, d, want), "before the restart")
	to := t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS(dir))) // a copy is what a kill leaves
	require.Zero(t, lost(t, openDB(t, to, func(c *Config) { c.NoLockfile = true }), want))
}
