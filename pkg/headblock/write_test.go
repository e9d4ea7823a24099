package headblock

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// logOf writes records into the write-ahead log of a new data directory.
func logOf(t *testing.T, recs ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	w, err := wlog.NewSize(promslog.NewNopLogger(), nil, filepath.Join(dir, "wal"), 2*pageSize, compression.None)
	require.NoError(t, err)
	for _, r := range recs {
		require.NoError(t, w.Log(r))
	}
	require.NoError(t, w.Close())
	return dir
}

func seriesRec(ref int, name string) []byte {
	var e record.Encoder
	return e.Series([]record.RefSeries{{Ref: chunks.HeadSeriesRef(ref), Labels: labels.FromStrings("__name__", name)}}, nil)
}

func samplesRec(ref int, times ...int64) []byte {
	var e record.Encoder
	var s []record.RefSample
	for _, t := range times {
		s = append(s, record.RefSample{Ref: chunks.HeadSeriesRef(ref), T: t, V: float64(t)})
	}
	return e.Samples(s, nil)
}

func stoneRec(ref int, mint, maxt int64) []byte {
	var e record.Encoder
	return e.Tombstones([]tombstones.Stone{{Ref: storage.SeriesRef(ref), Intervals: tombstones.Intervals{{Mint: mint, Maxt: maxt}}}}, nil)
}

// timesOf converts a log and returns the times of each series.
func timesOf(t *testing.T, dir string) (map[string][]int64, *Report) {
	t.Helper()
	src, err := OpenDir(dir)
	require.NoError(t, err)
	defer src.Close()
	report, err := Write(t.Context(), Config{Source: src, Dir: t.TempDir(), MinTime: src.MinTime(), BlockRange: testRange})
	require.NoError(t, err)
	out := map[string][]int64{}
	for i := range report.Dirs {
		readBlock(t, report.Dirs[i], func(name string, s sample) { out[name] = append(out[name], s.t) })
	}
	return out, report
}

func TestWrite_ReferenceOfAnotherSeriesLater(t *testing.T) {
	got, _ := timesOf(t, logOf(t, seriesRec(1, "a"), samplesRec(1, 10, 20), seriesRec(1, "b"), samplesRec(1, 15, 30)))
	require.Equal(t, map[string][]int64{"a": {10, 20}, "b": {15, 30}}, got)
}

func TestWrite_TwoReferencesOfOneSeries(t *testing.T) {
	got, _ := timesOf(t, logOf(t, seriesRec(1, "a"), samplesRec(1, 10), seriesRec(9_000_000_000, "a"), samplesRec(9_000_000_000, 20), samplesRec(1, 30)))
	require.Equal(t, map[string][]int64{"a": {10, 20, 30}}, got)
}

// Prometheus deletes a series by a tombstone of all times when its samples are in a
// block.
func TestWrite_DeletedSeriesBeginsAgain(t *testing.T) {
	got, _ := timesOf(t, logOf(t, seriesRec(1, "a"), samplesRec(1, 10), stoneRec(1, math.MinInt64, math.MaxInt64),
		samplesRec(1, 15), seriesRec(2, "a"), samplesRec(2, 20)))
	require.Equal(t, map[string][]int64{"a": {20}}, got)
}

func TestWrite_UnknownReferencesAreCounted(t *testing.T) {
	got, report := timesOf(t, logOf(t, seriesRec(1, "a"), samplesRec(2, 10, 11), samplesRec(1, 20)))
	require.Equal(t, map[string][]int64{"a": {20}}, got)
	require.EqualValues(t, 2, report.UnknownSamples)
}

// A record of the bucket may have any content. Prometheus's decoder would panic at these
// lengths, or take memory for them.
func TestWrite_SkipsRecordsWithImpossibleLengths(t *testing.T) {
	series := func(rest ...byte) []byte { return append([]byte{byte(record.Series), 0, 0, 0, 0, 0, 0, 0, 9}, rest...) }
	most := binary.AppendUvarint(nil, math.MaxUint64)
	hist := []byte{byte(record.HistogramSamples)}
	hist = append(hist, make([]byte, 16+2)...)      // first reference and time, both again as differences
	hist = append(hist, make([]byte, 1+1+8+2+8)...) // hint, schema, threshold, counts, sum
	spans := binary.AppendUvarint(hist, 1<<60)
	got, report := timesOf(t, logOf(t, seriesRec(1, "a"), samplesRec(1, 10),
		series(most...), series(append([]byte{1}, most...)...), spans, samplesRec(1, 20)))
	require.Equal(t, map[string][]int64{"a": {10, 20}}, got)
	require.Equal(t, 3, report.Loss.Places, report.Loss)
}

func TestWrite_CoveredTimesAreLeftOut(t *testing.T) {
	src, err := OpenDir(logOf(t, seriesRec(1, "a"), samplesRec(1, 10, 20, 30, 40)))
	require.NoError(t, err)
	defer src.Close()
	report, err := Write(t.Context(), Config{Source: src, Dir: t.TempDir(), MinTime: 15, Covered: []tombstones.Interval{{Mint: 30, Maxt: 39}}})
	require.NoError(t, err)
	require.Len(t, report.Blocks, 1)
	require.EqualValues(t, 2, report.Blocks[0].Stats.NumSamples)
	require.EqualValues(t, []int64{20, 41}, []int64{report.Blocks[0].MinTime, report.Blocks[0].MaxTime})
}

// A sample that Prometheus refused as out of order is in the log all the same.
func TestWrite_SampleOlderThanCoveredOneDoesNotCount(t *testing.T) {
	src, err := OpenDir(logOf(t, seriesRec(1, "a"), samplesRec(1, 35), samplesRec(1, 20), samplesRec(1, 40)))
	require.NoError(t, err)
	defer src.Close()
	report, err := Write(t.Context(), Config{Source: src, Dir: t.TempDir(), MinTime: math.MinInt64, Covered: []tombstones.Interval{{Mint: 30, Maxt: 39}}})
	require.NoError(t, err)
	require.Len(t, report.Blocks, 1)
	require.EqualValues(t, 1, report.Blocks[0].Stats.NumSamples)
}

// The name and the content of the blocks do not depend on the passes.
func TestWrite_SameBlocksWithLittleMemory(t *testing.T) {
	w := newWorld(t, 77)
	for range 60 {
		w.step()
	}
	dir := w.copy()
	require.NoError(t, w.db.Close())
	_, whole := convert(t, dir, 0)
	_, parts := convert(t, dir, 20_000)
	require.Equal(t, 2, whole.Passes)
	require.Greater(t, parts.Passes, 4)
	require.NotEmpty(t, whole.Blocks)
	require.Equal(t, whole.Blocks, parts.Blocks)
	for _, m := range whole.Blocks {
		require.True(t, Recovered(m.ULID))
	}
}

func TestWrite_RefusesMoreLabelsThanMemory(t *testing.T) {
	src, err := OpenDir(logOf(t, seriesRec(1, "a"), seriesRec(2, "b"), samplesRec(1, 1)))
	require.NoError(t, err)
	defer src.Close()
	_, err = Write(t.Context(), Config{Source: src, Dir: t.TempDir(), Memory: 150, MemoryFlag: "--memory"})
	var e *limit.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "--memory", e.Flag)
}

func TestWrite_EmptyHeadGivesNoBlock(t *testing.T) {
	got, report := timesOf(t, t.TempDir())
	require.Empty(t, got)
	require.Empty(t, report.Blocks)
}

func TestWrite_GoesOnBehindDamage(t *testing.T) {
	const n = 60_000
	recs := [][]byte{seriesRec(1, "a")}
	for i := range n {
		recs = append(recs, samplesRec(1, int64(i)))
	}
	dir := logOf(t, recs...)
	entries, err := os.ReadDir(filepath.Join(dir, "wal"))
	require.NoError(t, err)
	require.Greater(t, len(entries), 10)
	all, report := timesOf(t, dir)
	require.Equal(t, n, len(all["a"]))
	require.Zero(t, report.Loss)

	path := func(i int) string { return filepath.Join(dir, "wal", entries[i].Name()) }
	whole, err := os.ReadFile(path(3))
	require.NoError(t, err)
	f := func(name string, i int, content []byte, places, lost int) {
		t.Helper()
		old, err := os.ReadFile(path(i))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path(i), content, 0o644))
		got, report := timesOf(t, dir)
		require.Equal(t, places, report.Loss.Places, "%s: %+v", name, report.Loss)
		if lost >= 0 {
			require.Equal(t, n-lost, len(got["a"]), name)
		} else {
			require.Less(t, len(got["a"]), n, name)
			require.EqualValues(t, n-1, got["a"][len(got["a"])-1], name)
		}
		require.GreaterOrEqual(t, len(got["a"]), n-5000, name)
		require.NoError(t, os.WriteFile(path(i), old, 0o644))
	}
	flipped := func(b []byte, at int) []byte {
		b = append([]byte(nil), b...)
		b[at] ^= 0x10
		return b
	}
	f("first page", 3, flipped(whole, 100), 1, -1)
	f("second page", 3, flipped(whole, pageSize+100), 1, -1)
	f("both pages", 3, flipped(flipped(whole, 100), pageSize+100), 1, -1)
	f("cut in the middle of the log", 3, whole[:pageSize+1000], 0, -1)
	f("empty", 3, nil, 0, -1)
	last := len(entries) - 1
	tail, err := os.ReadFile(path(last))
	require.NoError(t, err)
	tail = bytes.TrimRight(tail, "\x00")
	require.NotEmpty(t, tail)
	f("torn end", last, tail[:len(tail)-3], 0, 1)
	f("damaged end", last, flipped(tail, len(tail)-3), 0, 1)
	require.NoError(t, os.Remove(path(3)))
	_, report = timesOf(t, dir)
	require.Equal(t, 1, report.Loss.Places)
}

func TestWrite_EndsWithItsContext(t *testing.T) {
	src, err := OpenDir(logOf(t, seriesRec(1, "a"), samplesRec(1, 1)))
	require.NoError(t, err)
	defer src.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Write(ctx, Config{Source: src, Dir: t.TempDir()})
	require.ErrorIs(t, err, context.Canceled)
}

// readBlock calls f with each sample of a block, by the name of the metric.
func readBlock(t *testing.T, dir string, f func(name string, s sample)) {
	t.Helper()
	b, err := tsdb.OpenBlock(promslog.NewNopLogger(), dir, nil, nil)
	require.NoError(t, err)
	defer b.Close()
	q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			f(set.At().Labels().Get("__name__"), current(it, vt))
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
}
