package headblock

import (
	"context"
	"fmt"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// testRange is the length of the blocks of the tests: many blocks by few samples.
const testRange = 2 * time.Minute

func testOptions() *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.MinBlockDuration = testRange.Milliseconds()
	o.MaxBlockDuration = testRange.Milliseconds()
	o.RetentionDuration = math.MaxInt64 / 4
	o.OutOfOrderTimeWindow = (4 * testRange).Milliseconds()
	o.WALSegmentSize = 64 << 10
	o.WALCompression = compression.Snappy
	o.SamplesPerChunk = 20
	o.StripeSize = 64
	return o
}

// world is a Prometheus's database under random writes.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	dir    string
	db     *tsdb.DB
	series []testSeries
	now    int64
}

type testSeries struct {
	labels labels.Labels
	kind   int // 0 float, 1 histogram, 2 float histogram, 3 gauge histogram, 4 custom buckets, 5 all of them
	ref    storage.SeriesRef
}

func newWorld(t *testing.T, seed int64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewSource(seed)), dir: t.TempDir(), now: 1_700_000_000_000}
	for i := range 30 {
		w.series = append(w.series, testSeries{labels: labels.FromStrings("__name__", fmt.Sprintf("m%d", i%7), "i", fmt.Sprint(i)), kind: i % 6})
	}
	w.open()
	return w
}

func (w *world) open() {
	db, err := tsdb.Open(w.dir, promslog.NewNopLogger(), nil, testOptions(), nil)
	require.NoError(w.t, err)
	db.DisableCompactions()
	w.db = db
	for i := range w.series {
		w.series[i].ref = 0
	}
}

// value appends one sample with the value that belongs to its time and series, so that
// a sample that is written twice is the same one.
func (w *world) append(app storage.Appender, s *testSeries, t int64) {
	kind := s.kind
	if kind == 5 {
		kind = int(t/1000) % 5
	}
	n := t/1000%50 + 1
	var h *histogram.Histogram
	var fh *histogram.FloatHistogram
	switch kind {
	case 1:
		h = tsdbutil.GenerateTestHistogram(n)
	case 2:
		fh = tsdbutil.GenerateTestFloatHistogram(n)
	case 3:
		h = tsdbutil.GenerateTestGaugeHistogram(n)
	case 4:
		h = tsdbutil.GenerateTestCustomBucketsHistogram(n)
	}
	var err error
	// In a series of all kinds, Prometheus chooses the kind of a staleness marker by the
	// sample that came before it, so that a marker written twice may have two kinds.
	switch stale := t/1000%17 == 0 && s.kind != 5; {
	case stale:
		s.ref, err = app.Append(s.ref, s.labels, t, math.Float64frombits(value.StaleNaN))
	case h != nil || fh != nil:
		s.ref, err = app.AppendHistogram(s.ref, s.labels, t, h, fh)
	default:
		s.ref, err = app.Append(s.ref, s.labels, t, float64(t%977))
	}
	if err != nil {
		require.Regexp(w.t, "out of|duplicate sample", err.Error(), "refused for its time only")
	}
}

// step does one random thing.
func (w *world) step() {
	switch r := w.rnd.Intn(100); {
	case r < 86: // a scrape
		w.now += 1000 + int64(w.rnd.Intn(3))*500
		app := w.db.Appender(w.t.Context())
		for i := range w.series {
			if w.rnd.Intn(4) > 0 && (i+int(w.now/300_000))%9 != 0 {
				w.append(app, &w.series[i], w.now)
			}
		}
		require.NoError(w.t, app.Commit())
	case r < 92: // late samples
		app := w.db.Appender(w.t.Context())
		for range 20 {
			w.append(app, &w.series[w.rnd.Intn(len(w.series))], w.now-1000*int64(w.rnd.Intn(300)))
		}
		require.NoError(w.t, app.Commit())
	case r < 94:
		to := w.now - int64(w.rnd.Intn(100))*1000
		m := labels.MustNewMatcher(labels.MatchEqual, "__name__", fmt.Sprintf("m%d", w.rnd.Intn(7)))
		require.NoError(w.t, w.db.Head().Delete(w.t.Context(), to-20_000, to, m))
	case r < 97:
		require.NoError(w.t, w.db.Compact(w.t.Context()))
		for i := range w.series {
			w.series[i].ref = 0
		}
	case r < 98:
		w.db.ForceHeadMMap()
	case r < 99:
		require.NoError(w.t, w.db.CompactOOOHead(w.t.Context()))
	default: // a clean restart, or a kill
		if w.rnd.Intn(2) == 0 {
			require.NoError(w.t, w.db.Close())
		} else {
			dir := w.copy()
			require.NoError(w.t, w.db.Close())
			w.dir = dir
		}
		w.open()
	}
}

// copy returns a copy of the directory as a kill would leave it.
func (w *world) copy() string {
	dir := w.t.TempDir()
	require.NoError(w.t, os.CopyFS(dir, os.DirFS(w.dir)))
	require.NoError(w.t, os.RemoveAll(filepath.Join(dir, "lock")))
	return dir
}

// samplesOf returns all samples of a database as text, by series.
func samplesOf(t *testing.T, dir string) map[string][]string {
	t.Helper()
	db, err := tsdb.Open(dir, promslog.NewNopLogger(), nil, testOptions(), nil)
	require.NoError(t, err)
	db.DisableCompactions()
	defer func() { require.NoError(t, db.Close()) }()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	out := map[string][]string{}
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	var it chunkenc.Iterator
	for set.Next() {
		name := set.At().Labels().String()
		it = set.At().Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			out[name] = append(out[name], sampleText(current(it, vt)))
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

func sampleText(s sample) string {
	switch {
	case s.h != nil:
		return fmt.Sprintf("%d int %s gauge %t sum %x", s.t, s.h, s.h.CounterResetHint == histogram.GaugeType, math.Float64bits(s.h.Sum))
	case s.fh != nil:
		return fmt.Sprintf("%d float %s gauge %t sum %x", s.t, s.fh, s.fh.CounterResetHint == histogram.GaugeType, math.Float64bits(s.fh.Sum))
	}
	return fmt.Sprintf("%d %x", s.t, math.Float64bits(s.v))
}

// convert writes the head in dir as blocks and returns a directory with these and the
// persisted ones, without logs.
func convert(t *testing.T, dir string, memory int64) (string, *Report) {
	t.Helper()
	src, err := OpenDir(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, src.Close()) }()
	out := t.TempDir()
	report, err := Write(t.Context(), Config{
		Source: src, Dir: out, MinTime: src.MinTime(), BlockRange: testRange, Memory: memory, MemoryFlag: "--memory",
		ExternalLabels: labels.FromStrings("a", "b"),
	})
	require.NoError(t, err)
	for i, m := range report.Blocks {
		v, err := block.Verify(t.Context(), report.Dirs[i])
		require.NoError(t, err)
		require.False(t, v.Flawed(), v.Example)
		require.Equal(t, m.ULID, v.Meta.ULID)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if _, ok := block.ParseID(e.Name()); ok {
			require.NoError(t, os.CopyFS(filepath.Join(out, e.Name()), os.DirFS(filepath.Join(dir, e.Name()))))
		}
	}
	return out, report
}

func requireSameSamples(t *testing.T, want, got map[string][]string, msg string) {
	t.Helper()
	for name, w := range want {
		if !slices.Equal(w, got[name]) {
			for i := range max(len(w), len(got[name])) {
				a, b := "none", "none"
				if i < len(w) {
					a = w[i]
				}
				if i < len(got[name]) {
					b = got[name][i]
				}
				if a != b {
					require.Equal(t, a, b, "%s: %s sample %d of %d and %d", msg, name, i, len(w), len(got[name]))
				}
			}
		}
	}
	require.Len(t, got, len(want), msg)
}

// A log that was cut off somewhere, as by a repair, lacks samples that the chunks of the
// head have.
func TestWrite_EqualsPrometheusWithLogCutOff(t *testing.T) {
	lost := 0
	for seed := int64(100); seed < 104; seed++ {
		w := newWorld(t, seed)
		for range 80 {
			w.step()
		}
		w.db.ForceHeadMMap()
		for range 2 {
			dir := w.copy()
			_, whole := convert(t, dir, 0)
			segs, err := filepath.Glob(filepath.Join(dir, "wal", "0*"))
			require.NoError(t, err)
			keep := w.rnd.Intn(max(1, len(segs)-1))
			for _, s := range segs[keep+1:] {
				require.NoError(t, os.Remove(s))
			}
			last := segs[keep]
			info, err := os.Stat(last)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(last, int64(w.rnd.Intn(int(info.Size()/2)+1))))
			mine, report := convert(t, dir, 0)
			samplesOf(t, dir) // the start that repairs the log reads no out-of-order samples
			requireSameSamples(t, samplesOf(t, dir), samplesOf(t, mine), fmt.Sprintf("seed %d", seed))
			samples := func(r *Report) (n uint64) {
				for _, m := range r.Blocks {
					n += m.Stats.NumSamples
				}
				return n
			}
			lost += int(samples(whole)) - int(samples(report))
		}
		require.NoError(t, w.db.Close())
	}
	require.Positive(t, lost)
}

// The blocks have what Prometheus serves after it has read the same directory.
func TestWrite_EqualsPrometheus(t *testing.T) {
	for seed := range int64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			total := 0
			for round := range 3 {
				for range 80 {
					w.step()
				}
				dir := w.copy()
				mine, report := convert(t, dir, []int64{0, 20_000, 100_000}[round%3])
				require.Zero(t, report.Loss, "round %d", round)
				for _, m := range report.Blocks {
					total += int(m.Stats.NumSamples)
				}
				requireSameSamples(t, samplesOf(t, dir), samplesOf(t, mine), fmt.Sprintf("round %d", round))
			}
			require.NoError(t, w.db.Close())
			require.Greater(t, total, 2000)
		})
	}
}
