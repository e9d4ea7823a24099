package multitsdb

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// A tenant whose process is killed again and again, soon after its start too,
// loses nothing, late samples neither. A copy of its directory is what a kill
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
		want := map[point]bool{}
		put := func(ts int64) {
			var batch []prompb.TimeSeries
			for i := range series {
				batch = append(batch, float(fmt.Sprint("s", i), ts, float64(ts)))
			}
			require.NoError(t, write(t, d, "a", batch...))
			for _, s := range batch {
				want[point{s.Labels[0].Value, ts}] = true
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

// point is one sample.
type point struct {
	series string
	t      int64
}

// lost counts the samples that a DB does not have.
func lost(t *testing.T, d *DB, want map[point]bool) (n int) {
	have := make(map[point]bool, len(want))
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
					have[point{name, ts}] = true
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

func TestMarkersAreTakenOut(t *testing.T) {
	samples := func(n int) (out []record.RefSample) {
		for i := range n {
			out = append(out, record.RefSample{Ref: 1, T: int64(i), V: 1})
		}
		return out
	}
	for _, typ := range compression.Types() {
		dir := t.TempDir()
		w, err := wlog.NewSize(slog.New(slog.DiscardHandler), nil, filepath.Join(dir, lateLog), walPage, typ)
		require.NoError(t, err)
		var enc record.Encoder
		want := 0
		for i := range 100 {
			require.NoError(t, w.Log(enc.Samples(samples(1+50*i), nil)))
			want += 1 + 50*i
			require.NoError(t, w.Log(enc.MmapMarkers(slices.Repeat([]record.RefMmapMarker{{Ref: 1, MmapRef: 8}}, 1+10*i), nil)))
		}
		require.NoError(t, w.Close())
		damaged, err := salvageLogs(dir)
		require.NoError(t, err)
		require.Zero(t, damaged)
		require.NoDirExists(t, filepath.Join(dir, damagedDir))
		r, err := wlog.NewSegmentsReader(filepath.Join(dir, lateLog))
		require.NoError(t, err)
		var dec record.Decoder
		got := 0
		for wr := wlog.NewReader(r); wr.Next(); {
			require.Equal(t, record.Samples, dec.Type(wr.Record()), typ)
			s, err := dec.Samples(wr.Record(), nil)
			require.NoError(t, err)
			got += len(s)
		}
		require.NoError(t, r.Close())
		require.Equal(t, want, got, typ)
	}
	kept, damaged := withoutMarkers([]walRecord{{compression: walSnappy, parts: [][]byte{{0xff}}}, {}, {parts: [][]byte{{byte(record.Samples)}}}})
	require.Len(t, kept, 1)
	require.Equal(t, 2, damaged)
}
