package multitsdb

import (
	"fmt"
	"math"
	"math/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// A tenant whose process is killed again and again, soon after its start too,
// loses nothing, out-of-order samples included. A copy of its directory is what a kill
// leaves: what was not written to a file yet is not in it.
func TestKilledAgainAndAgain(t *testing.T) {
	const series, rounds = 400, 4
	seeds := int64(3)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewSource(seed))
		open := func(dir string) *DB {
			d := openDB(t, dir, func(c *Config) { c.NoLockfile, c.MinBlockDuration = true, 20*time.Second })
			for _, tn := range d.all() {
				tn.db.DisableCompactions() // it may not happen while the directory is copied
			}
			return d
		}
		dir := t.TempDir()
		d := open(dir)
		// In the middle of a block, wherever the clock is.
		now := time.Now().Truncate(20*time.Second).UnixMilli() + 8_000
		want := map[sampleID]bool{}
		put := func(ts int64) {
			var batch []prompb.TimeSeries
			for i := range series {
				batch = append(batch, float(fmt.Sprint("s", i), ts, float64(ts)))
			}
			require.NoError(t, write(t, d, "a", batch...))
			for _, s := range batch {
				want[sampleID{s.Labels[0].Value, ts}] = true
			}
		}
		for round := range rounds {
			for range 20 + rnd.Intn(40) {
				now += 50
				put(now)
				put(now - 1 - rnd.Int63n(15_000))
			}
			for range 1 + rnd.Intn(2) { // kills
				to := t.TempDir()
				require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
				d, dir = open(to), to
			}
			if rnd.Intn(4) == 0 {
				require.NoError(t, d.opened("a").flush(t.Context()))
			}
			require.Zero(t, lost(t, d, want), "seed %d, round %d", seed, round)
		}
	}
}

// sampleID names one sample.
type sampleID struct {
	series string
	t      int64
}

// lost counts the samples that a DB does not have.
func lost(t *testing.T, d *DB, want map[sampleID]bool) (n int) {
	have := make(map[sampleID]bool, len(want))
	for _, s := range d.Stores() {
		set := s.Select(t.Context(), &storeapi.Request{
			MinTime: 0, MaxTime: math.MaxInt64, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "j")},
		})
		for set.Next() {
			name := strings.Clone(set.At().Labels.Get("__name__"))
			for _, c := range set.At().Chunks {
				chunk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
				require.NoError(t, err)
				for it := chunk.Iterator(nil); it.Next() != chunkenc.ValNone; {
					ts, _ := it.At()
					have[sampleID{name, ts}] = true
				}
			}
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
	}
	for p := range want {
		if !have[p] {
			n++
		}
	}
	return n
}
