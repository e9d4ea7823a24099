package headship_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// Everything that a TSDB has appended is in the bucket after a pass, however its log is
// compressed.
func TestSync_ShipsAllSamplesOnce(t *testing.T) {
	for _, c := range compression.Types() {
		for _, startTimes := range []bool{false, true} {
			t.Run(c, func(t *testing.T) {
				f := newFixture(t, func(o *tsdb.Options) {
					o.WALCompression = c
					if startTimes {
						o.EnableSTStorage, o.FloatChunkEncoding = true, chunkenc.EncXOR2
					}
				})
				for i := range 15 {
					ts := hour + int64(i)*minute
					f.scrape("a", 200, ts)
					f.histograms(ts, i)
					if i%7 == 0 {
						f.sync()
					}
				}
				f.sync()
				g := f.one()
				want := f.inDB(0)
				require.NotEmpty(t, want)
				requireEqual(t, want, f.inBucket(g))
				before := len(g.Pieces)
				f.sync()
				require.Len(t, f.one().Pieces, before, "nothing new, nothing shipped")

				last := map[headlog.Kind]headlog.Piece{}
				for _, p := range g.Pieces {
					if prev, ok := last[p.Kind]; ok && prev.Segment == p.Segment {
						require.LessOrEqual(t, prev.End, p.From, "no byte is in two pieces")
					}
					last[p.Kind] = p
				}
				require.Zero(t, f.metric("unshipped_bytes"))
				require.Greater(t, f.metric("last_ship_success_time_seconds"), 1e9)
			})
		}
	}
}

// After a restart the sidecar finds its place in the bucket alone. The data directory may
// be read-only.
func TestSync_ContinuesAfterRestartOfSidecar(t *testing.T) {
	f := newFixture(t, nil)
	f.scrape("a", 200, hour)
	f.sync()
	f.newShipper()
	f.scrape("b", 10, hour+1)
	f.sync()
	g := f.one()
	requireEqual(t, f.inDB(0), f.inBucket(g))
	require.Zero(t, f.metric("generations_total"))
	require.Less(t, f.metric("log_bytes_total"), float64(2000), "only the new bytes are read")
	entries, err := os.ReadDir(f.dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.Contains(t, []string{"wal", "chunks_head", "lock"}, e.Name(), "the shipper leaves nothing in the data directory")
	}
}

// The log is truncated under the reader in the middle of all this: blocks are cut, segments
// deleted, checkpoints made, the TSDB restarted, the sidecar restarted.
func TestSync_FollowsBlocksCheckpointsAndRestarts(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 9 * 60 {
		ts := hour + int64(i)*minute
		f.scrape("always", 20, ts)
		f.scrape("churn"+string(rune('a'+i/60)), 10, ts)
		if i%3 == 0 {
			f.sync()
		}
		if i%60 == 59 {
			f.compact(true)
			f.sync()
		}
		if i%150 == 149 {
			require.NoError(t, f.db.Close())
			f.open()
		}
		if i%200 == 199 {
			f.newShipper()
		}
	}
	f.sync()
	g := f.one()
	require.Zero(t, f.metric("gaps_total"))
	end := f.db.Blocks()[len(f.db.Blocks())-1].MaxTime()
	require.GreaterOrEqual(t, end, 6*hour)
	require.Empty(t, missing(f.inDB(end), f.inBucket(g)), "the head is in the bucket")
	require.Empty(t, missing(f.inBucket(g), f.inDB(0)), "and nothing else")
	held := 0
	for _, p := range g.Pieces {
		if p.Kind.HasSamples() && p.MaxTime < end {
			held++
		}
	}
	require.LessOrEqual(t, held, 1, "pieces whose block is in the bucket are gone")
}

func TestSync_KeepsPiecesUntilTheirBlockIsShipped(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 200 {
		f.scrape("a", 20, hour+int64(i)*minute)
		if i%20 == 0 {
			f.sync()
		}
	}
	f.compact(false)
	f.sync()
	require.NotEmpty(t, f.db.Blocks())
	requireEqual(t, f.inDB(0), f.inBucket(f.one()), "no block is in the bucket")
	before := len(f.one().Pieces)
	f.ship()
	f.sync()
	require.Equal(t, before-3, len(f.one().Pieces))
	require.Empty(t, missing(f.inDB(f.db.Blocks()[0].MaxTime()), f.inBucket(f.one())))
}

func TestSync_BlockOfOutOfOrderSamplesCoversNoOthers(t *testing.T) {
	f := newFixture(t, func(o *tsdb.Options) { o.OutOfOrderTimeWindow = 2 * hour })
	for i := range 110 {
		f.scrape("a", 5, hour+int64(i)*minute)
		if i > 30 && i%5 == 0 {
			f.scrape("late", 3, hour+int64(i)*minute)
			f.scrape("late", 2, hour+int64(i)*minute-20*minute)
			f.sync()
		}
	}
	f.sync()
	require.Positive(t, kinds(f.one())[headlog.KindWBL])
	requireEqual(t, f.inDB(0), f.inBucket(f.one()))

	// Its blocks reach into the range of the head, which is in no block yet.
	require.NoError(t, f.db.CompactOOOHead(t.Context()))
	f.ship()
	require.NotEmpty(t, f.db.Blocks())
	f.scrape("a", 5, hour+111*minute)
	f.sync()
	require.LessOrEqual(t, kinds(f.one())[headlog.KindWBL], 1, "the log of the blocks was deleted")
	requireEqual(t, f.inDB(0), f.inBucket(f.one()), "samples of wal/ stay")
}

func TestSync_KeepsOutOfOrderSamplesUntilTheirBlockIsShipped(t *testing.T) {
	f := newFixture(t, func(o *tsdb.Options) { o.OutOfOrderTimeWindow = 2 * hour })
	for i := range 200 {
		f.scrape("a", 5, hour+int64(i)*minute)
		if i > 100 && i%10 == 0 {
			f.scrape("a", 2, hour+int64(i)*minute-90*minute-1)
			f.sync()
		}
	}
	f.compact(false)
	f.sync()
	want := f.inDB(0)
	requireEqual(t, want, f.inBucket(f.one()))
	for _, b := range f.db.Blocks() {
		if m := b.Meta(); !m.Compaction.FromOutOfOrder() {
			f.shipped[m.ULID] = true
		}
	}
	f.sync()
	require.Positive(t, kinds(f.one())[headlog.KindWBL])
	for r := range f.inBucket(f.one()) {
		require.True(t, want[r])
	}
	f.ship()
	f.sync()
	require.LessOrEqual(t, kinds(f.one())[headlog.KindWBL], 1)
}

// Prometheus deletes what was not shipped: the sidecar was not there, or the bucket.
func TestSync_ShipsCheckpointAfterGap(t *testing.T) {
	f := newFixture(t, nil)
	f.scrape("a", 60, hour)
	f.sync()
	for i := range 250 {
		f.scrape("a", 60, hour+int64(i+1)*minute)
		f.scrape("b", 20, hour+int64(i+1)*minute)
		if i%60 == 59 {
			f.compact(true)
		}
	}
	f.sync()
	require.EqualValues(t, 1, f.metric("gaps_total"))
	g := f.one()
	require.Positive(t, kinds(g)[headlog.KindCheckpoint])
	end := f.db.Blocks()[len(f.db.Blocks())-1].MaxTime()
	require.Empty(t, missing(f.inDB(end), f.inBucket(g)))
	require.Empty(t, missing(f.inBucket(g), f.inDB(0)))
	f.newShipper()
	f.scrape("a", 60, hour+251*minute)
	f.sync()
	require.Empty(t, missing(f.inDB(end), f.inBucket(f.one())), "and continues after a restart")
	require.Zero(t, f.metric("gaps_total"))
}

// A crash of the machine can take bytes that were shipped. Then references are used again
// for other series.
func TestSync_BeginsGenerationWhenShippedBytesAreGone(t *testing.T) {
	f := newFixture(t, nil)
	f.scrape("a", 100, hour)
	f.scrape("lost", 10, hour)
	f.sync()
	lost := f.inDB(0)
	require.NoError(t, f.db.Close())
	segment := filepath.Join(f.dir, "wal", "00000000")
	g := f.one()
	require.NoError(t, os.Truncate(segment, g.Pieces[len(g.Pieces)-1].End-100))
	for _, restart := range []bool{false, true} {
		f.open()
		if restart {
			f.newShipper()
		}
		f.scrape("other", 10, hour+minute)
		f.sync()
		gens := f.generations()
		require.Len(t, gens, 2)
		requireEqual(t, lost, f.inBucket(gens[0]), "the shipped samples stay")
		requireEqual(t, f.inDB(0), f.inBucket(gens[1]))
		require.NoError(t, f.db.Close())
	}
}

// A record that a kill has cut is not shipped, and the log goes on after it.
func TestSync_WaitsForWholeRecordsAndSkipsTornOnes(t *testing.T) {
	f := newFixture(t, nil)
	f.scrape("a", 100, hour)
	f.sync()
	end := f.one().Pieces[1].End
	require.NoError(t, f.db.Close())
	segment := filepath.Join(f.dir, "wal", "00000000")
	whole, err := os.ReadFile(segment)
	require.NoError(t, err)
	whole = whole[:end]

	f.mem = bucket.NewMemory()
	f.bucket = buckettest.NewFaulty(f.mem, nil)
	f.newShipper()
	for n := 0; n < len(whole); n += 31 {
		require.NoError(t, os.WriteFile(segment, whole[:n], 0o666))
		f.sync()
	}
	require.NoError(t, os.WriteFile(segment, append(whole, 1, 0, 50, 1, 2), 0o666))
	f.sync()
	require.Len(t, f.inBucket(f.one()), 100)

	f.open() // repairs the segment
	f.scrape("b", 10, hour+minute)
	f.sync()
	requireEqual(t, f.inDB(0), f.inBucket(f.one()))
}

// Two servers with equal labels write to generations of their own.
func TestSync_ServersWithEqualLabelsDoNotShareGeneration(t *testing.T) {
	f, other := newFixture(t, nil), newFixture(t, nil)
	other.mem, other.bucket = f.mem, f.bucket
	other.newShipper()
	for i := range 5 {
		f.scrape("a", 10, hour+int64(i)*minute)
		other.scrape("b", 10, hour+int64(i)*minute)
		f.sync()
		other.sync()
		f.newShipper()
		other.newShipper()
	}
	gens := f.generations()
	require.Len(t, gens, 2)
	a, b := f.inBucket(gens[0]), f.inBucket(gens[1])
	if !a[missing(f.inDB(0), nil)[0]] {
		a, b = b, a
	}
	requireEqual(t, f.inDB(0), a)
	requireEqual(t, other.inDB(0), b)
}

func TestSync_ChangedLabelsBeginGenerationOfOtherSource(t *testing.T) {
	f := newFixture(t, nil)
	f.scrape("a", 10, hour)
	f.sync()
	f.labels = labels.FromStrings("cluster", "us")
	f.sync()
	gens := f.generations()
	require.Len(t, gens, 2)
	require.NotEqual(t, gens[0].Source, gens[1].Source)
	requireEqual(t, f.inBucket(gens[0]), f.inBucket(gens[1]))
}
