package headship_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/sidecar/headship"
)

// requireInOrder checks that no byte of a log is in two pieces of a kind, and that the
// pieces of a kind are in the order of the log.
func requireInOrder(t *testing.T, g *headlog.Generation) {
	t.Helper()
	last := map[headlog.Kind]headlog.Piece{}
	for _, p := range g.Pieces {
		prev, ok := last[p.Kind]
		require.False(t, ok && (prev.Segment > p.Segment || prev.Segment == p.Segment && prev.End > p.From), "%s after %s", p.Name, prev.Name)
		last[p.Kind] = p
	}
}

// The bucket is away for six hours of samples. The log on disk is the queue, and
// what Prometheus truncates meanwhile is in blocks, which are shipped instead.
func TestSync_BucketAwayForHoursLosesNothing(t *testing.T) {
	f := newFixture(t, nil)
	f.scrape("a", 30, hour)
	f.sync()
	f.bucket.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
	for i := range 6 * 60 {
		f.scrape("a", 30, hour+int64(i+1)*minute)
		if i%10 == 0 {
			require.ErrorIs(t, f.shipper.Sync(t.Context()), buckettest.ErrInjected)
		}
		if i%60 == 59 {
			f.compact(false)
		}
	}
	require.Positive(t, f.metric("unshipped_bytes"))
	require.EqualValues(t, 36, f.metric("ship_failures_total"))
	f.bucket.SetRule(nil)
	f.sync()
	require.Zero(t, f.metric("unshipped_bytes"))
	g := f.one()
	requireInOrder(t, g)
	end := f.db.Blocks()[len(f.db.Blocks())-1].MaxTime()
	require.Empty(t, missing(f.inDB(end), f.inBucket(g)))
	require.Empty(t, missing(f.inBucket(g), f.inDB(0)))
}

// Each kind of fault hits calls at random. At the end everything is there once: an upload
// whose answer was lost is done again under the same name.
func TestSync_ArrivesOnceDespiteFaults(t *testing.T) {
	for seed := range uint64(10) {
		f := newFixture(t, nil)
		rng := rand.New(rand.NewPCG(seed, 0))
		var mu sync.Mutex
		f.bucket.SetRule(func(op buckettest.Op) buckettest.Fault {
			mu.Lock()
			defer mu.Unlock()
			switch rng.IntN(8) {
			case 0:
				return buckettest.Fault{Err: buckettest.ErrInjected}
			case 1:
				return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: op.Kind == "upload" || op.Kind == "delete"}
			case 2:
				return buckettest.Fault{Lost: op.Kind == "upload"}
			case 3:
				return buckettest.Fault{Short: op.Kind == "upload"}
			}
			return buckettest.Fault{}
		})
		for i := range 30 {
			f.scrape("a", 10, hour+int64(i)*minute)
			f.scrape(fmt.Sprint("b", i/5), 5, hour+int64(i)*minute)
			_ = f.shipper.Sync(t.Context())
			if i == 15 {
				f.newShipper()
			}
		}
		f.bucket.SetRule(nil)
		f.sync()
		gens := f.generations()
		g := gens[len(gens)-1]
		requireEqual(t, f.inDB(0), f.inBucket(g))
		if len(gens) == 1 {
			seqs := map[uint64]bool{}
			for _, p := range g.Pieces {
				require.False(t, seqs[p.Seq], "piece %d twice", p.Seq)
				seqs[p.Seq] = true
			}
		}
	}
}

// A reader beside a writer sees whole records only, whatever it sees of the files.
func TestSync_BesideWriter(t *testing.T) {
	f := newFixture(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := f.shipper.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 300 {
		f.scrape("a", 50, hour+int64(i)*minute/4)
	}
	cancel()
	wg.Wait()
	f.sync()
	requireInOrder(t, f.one())
	requireEqual(t, f.inDB(0), f.inBucket(f.one()))
}

// At the end records may still come: shipping goes on until Prometheus has closed its data
// directory.
func TestRun_ShipsRecordsThatComeDuringStop(t *testing.T) {
	for _, closes := range []bool{true, false} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
		w, err := wlog.NewSize(nil, nil, filepath.Join(dir, "wal"), 32<<10, compression.Snappy)
		require.NoError(t, err)
		mem := bucket.NewMemory()
		synctest.Test(t, func(t *testing.T) {
			s, err := headship.New(headship.Config{Dir: dir, Interval: time.Minute}, headship.Deps{
				Bucket: mem, Labels: func() labels.Labels { return labels.FromStrings("a", "b") },
				Shipped: func(ulid.ULID) bool { return false },
			})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { s.Run(ctx) })
			time.Sleep(time.Second)
			cancel()
			start := time.Now()
			for i := range 4 {
				logSample(t, w, int64(i))
				time.Sleep(time.Second)
			}
			if closes {
				require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
			}
			wg.Wait()
			if closes {
				require.Less(t, time.Since(start), 6*time.Second)
			} else {
				require.Less(t, time.Since(start), 8*time.Second, "the log is quiet")
			}
		})
		require.NoError(t, w.Close())
		var l headlog.Listing
		require.NoError(t, mem.List(t.Context(), "", func(o bucket.Object) error { l.Add(o.Name, o.Size, o.LastModified); return nil }))
		g := l.Generations()[0]
		require.EqualValues(t, 3, g.Pieces[len(g.Pieces)-1].MaxTime)
	}
}

// A former generation is removed if blocks of the directory hold all its times, and it has
// not grown for long; a generation of another server is left alone.
func TestSync_RemovesFormerGenerationThatBlocksHold(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 240 {
		f.scrape("a", 5, hour+int64(i)*minute)
	}
	f.compact(true)
	source := headlog.Source(f.labels)
	old, recent := time.Now().Add(-2*time.Hour), time.Now()
	put := func(at time.Time, mint, maxt int64) string {
		w, err := headlog.NewWriter(false)
		require.NoError(t, err)
		require.NoError(t, w.Add(headlog.CodecNone, []byte{2}))
		n := headlog.Name{Seq: 1, Kind: headlog.KindWAL, End: 5, MinTime: mint, MaxTime: maxt}
		b, err := w.Finish(n, 1)
		require.NoError(t, err)
		id := ulid.MustNew(uint64(mint), nil)
		f.bucket.Bucket = &aged{Bucket: f.bucket.Bucket, prefix: headlog.GenerationDir(source, id), at: at}
		for name, content := range map[string][]byte{headlog.InfoName: []byte("{}"), n.String(): b} {
			require.NoError(t, f.mem.Upload(t.Context(), headlog.GenerationDir(source, id)+"/"+name, bytesReader(content), int64(len(content))))
		}
		return id.String()
	}
	held := put(old, hour+1, hour+minute)
	young := put(recent, hour+2, hour+minute)
	before := put(old, hour-1, hour+minute)
	head := put(old, hour+3, hour+239*minute)
	f.sync()
	var got []string
	for _, g := range f.generations() {
		got = append(got, g.ID.String())
	}
	require.NotContains(t, got, held)
	require.Subset(t, got, []string{young, before, head})
}
