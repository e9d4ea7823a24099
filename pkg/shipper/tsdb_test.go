package shipper_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/shipper"
)

// prometheusDB opens a TSDB as Prometheus does: with delay, it compacts no block of the
// first level that the state file does not list, nor any that is newer.
func prometheusDB(t *testing.T, dir string, delay bool) *tsdb.DB {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.MinBlockDuration, o.MaxBlockDuration = 2*time.Hour.Milliseconds(), 2*time.Hour.Milliseconds()
	o.OutOfOrderTimeWindow, o.RetentionDuration = 4*time.Hour.Milliseconds(), 0
	if delay {
		o.MaxBlockDuration = 18 * time.Hour.Milliseconds()
		o.BlockCompactionExcludeFunc = func(m *tsdb.BlockMeta) bool {
			var st struct{ Uploaded []string }
			data, err := os.ReadFile(filepath.Join(dir, "thanos.shipper.json"))
			if err == nil {
				err = json.Unmarshal(data, &st)
			}
			return m.Compaction.Level <= 1 && (err != nil || !slices.Contains(st.Uploaded, m.ULID.String()))
		}
	}
	db, err := tsdb.Open(dir, slog.New(slog.DiscardHandler), nil, o, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// bucketSamples returns the times of all samples in the visible blocks of a bucket that no
// other block replaces.
func bucketSamples(t *testing.T, b bucket.Reader) map[int64]bool {
	t.Helper()
	v, err := blocklist.NewPoller(b, blocklist.Config{Filters: []blocklist.Filter{blocklist.Duplicates()}}).Poll(t.Context())
	require.NoError(t, err)
	out := map[int64]bool{}
	for id := range v.Metas {
		dir := filepath.Join(t.TempDir(), id.String())
		_, err := block.Download(t.Context(), b, id, dir, block.DownloadConfig{})
		require.NoError(t, err)
		local, err := tsdb.OpenBlock(nil, dir, nil, nil)
		require.NoError(t, err)
		q, err := tsdb.NewBlockQuerier(local, math.MinInt64, math.MaxInt64)
		require.NoError(t, err)
		set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
		for set.Next() {
			it := set.At().Iterator(nil)
			for it.Next() != chunkenc.ValNone {
				out[it.AtT()] = true
			}
			require.NoError(t, it.Err())
		}
		require.NoError(t, set.Err())
		require.NoError(t, q.Close())
		require.NoError(t, local.Close())
	}
	return out
}

// A real TSDB with out-of-order samples, which cuts blocks and merges them at once, in both
// ways in which Prometheus can be run, and a bucket that fails at random. In the end the
// bucket has each sample of the cut blocks.
func TestSync_ShipsEachSampleOfPrometheus(t *testing.T) {
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprintf("delay=%v", delay), func(t *testing.T) {
			dir, mem := t.TempDir(), bucket.NewMemory()
			db := prometheusDB(t, dir, delay)
			rnd := rand.New(rand.NewSource(1))
			bkt := buckettest.NewFaulty(mem, unreliable(rnd))
			s := shipper.New(shipper.Config{Dir: dir, Source: block.SourceSidecar, BlockDuration: 2 * time.Hour}, shipper.Deps{Bucket: bkt, Labels: extLabels})
			const step = 10 * 60 * 1000
			for hour := int64(0); hour < 20; hour++ {
				app := db.Appender(t.Context())
				for ts := hour * 3600_000; ts < (hour+1)*3600_000; ts += step {
					_, err := app.Append(0, labels.FromStrings("__name__", "up"), ts, float64(ts))
					require.NoError(t, err)
					if late := ts - 3*3600_000 - step/2; hour%5 == 4 && late > 0 {
						_, err := app.Append(0, labels.FromStrings("__name__", "up"), late, 1)
						require.NoError(t, err)
					}
				}
				require.NoError(t, app.Commit())
				require.NoError(t, db.Compact(t.Context()))
				if hour%2 == 1 {
					// A failed pass is repeated by a later one.
					_, _ = s.Sync(t.Context())
				}
			}
			bkt.SetRule(nil)
			for range 3 {
				_, err := s.Sync(t.Context())
				require.NoError(t, err)
				require.NoError(t, db.Compact(t.Context()))
			}
			want := map[int64]bool{}
			for _, b := range db.Blocks() {
				q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
				require.NoError(t, err)
				set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
				for set.Next() {
					it := set.At().Iterator(nil)
					for it.Next() != chunkenc.ValNone {
						want[it.AtT()] = true
					}
				}
				require.NoError(t, q.Close())
			}
			require.Greater(t, len(want), 95)
			got := bucketSamples(t, mem)
			for ts := range want {
				require.True(t, got[ts], "sample at %s is in a local block and not in the bucket", time.UnixMilli(ts).UTC())
			}
		})
	}
}
