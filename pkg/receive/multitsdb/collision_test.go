package multitsdb

import (
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// labelled is a series whose labels come in the order of the pairs.
func labelled(ts int64, v float64, pairs ...string) prompb.TimeSeries {
	s := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: ts, Value: v}}}
	for i := 0; i < len(pairs); i += 2 {
		s.Labels = append(s.Labels, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return s
}

// all returns the label sets of everything that is stored.
func all(t *testing.T, d *DB) (out []string) {
	t.Helper()
	for _, s := range d.Stores() {
		set := s.Select(t.Context(), &storeapi.Request{
			MinTime: math.MinInt64, MaxTime: math.MaxInt64,
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
		})
		for set.Next() {
			out = append(out, set.At().Labels.String())
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
	}
	return out
}

// Series that differ in a label called like an external one only stay apart, with
// samples and with histograms, whether they are new or known.
func TestLabelsLikeExternalOnesAreRenamed(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	for round := range int64(3) {
		h := labelled(0, 0, "__name__", "h", "replica", "b")
		h.Samples, h.Histograms = nil, []prompb.Histogram{prompb.FromIntHistogram(now+round, tsdbutil.GenerateTestHistogram(1))}
		require.NoError(t, write(t, d, "t",
			labelled(now+round, 1, "__name__", "m"),
			labelled(now+round, 2, "__name__", "m", "replica", "a"),
			labelled(now+round, 3, "__name__", "m", "replica", "b"),
			labelled(now+round, 4, "__name__", "m", "tenant_id", "evil"),
			labelled(now+round, 5, "__name__", "m", "exported_replica", "x", "replica", "y"),
			h,
		))
	}
	require.Equal(t, []string{
		`{__name__="h", exported_replica="b", replica="r", tenant_id="t"}`,
		`{__name__="m", exported_exported_replica="y", exported_replica="x", replica="r", tenant_id="t"}`,
		`{__name__="m", exported_replica="a", replica="r", tenant_id="t"}`,
		`{__name__="m", exported_replica="b", replica="r", tenant_id="t"}`,
		`{__name__="m", exported_tenant_id="evil", replica="r", tenant_id="t"}`,
		`{__name__="m", replica="r", tenant_id="t"}`,
	}, all(t, d))
	require.Len(t, dump(t, d), 6*3)
	tenant := d.opened("t")
	used, aliases := tenant.cache.Len()
	require.Equal(t, 5, aliases, "they are found again without parsing")
	require.Equal(t, 1, used)
}

// Cached references of known series must not keep the old name.
func TestNewExternalLabelsRenameKnownSeries(t *testing.T) {
	var external atomic.Pointer[labels.Labels]
	set := func(pairs ...string) {
		ls := labels.FromStrings(pairs...)
		external.Store(&ls)
	}
	set("replica", "r")
	d := openDB(t, t.TempDir(), func(c *Config) { c.External = func(string) labels.Labels { return *external.Load() } })
	now := time.Now().UnixMilli()
	s := func(ts int64) prompb.TimeSeries { return labelled(ts, 1, "__name__", "m", "cluster", "own") }
	require.NoError(t, write(t, d, "t", s(now)))
	set("cluster", "c", "replica", "r")
	require.NoError(t, write(t, d, "t", s(now+1)))
	tenant := d.opened("t")
	require.EqualValues(t, 2, tenant.db.Head().NumSeries())
	require.Contains(t, all(t, d), `{__name__="m", cluster="c", exported_cluster="own", replica="r"}`)
}

// One series is one, in whatever order its labels come and with empty ones.
func TestLabelsInAnyOrder(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	orders := [][]string{
		{"__name__", "m", "a", "1", "b", "2"}, {"b", "2", "a", "1", "__name__", "m"}, {"a", "1", "__name__", "m", "b", "2"},
		{"__name__", "m", "a", "1", "b", "2", "c", ""}, {"", "", "__name__", "m", "a", "1", "b", "2"},
		{"__name__", "m", "b", "2", "a", "1"}, {"b", "2", "__name__", "m", "a", "1"},
	}
	for round := range 2 {
		for i, o := range orders {
			require.NoError(t, write(t, d, "t", labelled(now+int64(round*len(orders)+i), 1, o...)))
		}
	}
	require.Equal(t, []string{`{__name__="m", a="1", b="2", replica="r", tenant_id="t"}`}, all(t, d))
	require.Len(t, dump(t, d), 2*len(orders))
	tenant := d.opened("t")
	_, aliases := tenant.cache.Len()
	require.Equal(t, 4, aliases, "a hostile sender cannot fill the memory")
	// Both forms in one request contradict each other only where they differ.
	err := write(t, d, "t", labelled(now+50, 1, orders[0]...), labelled(now+50, 2, orders[1]...))
	require.ErrorContains(t, err, "duplicate_timestamp: 1 rejected")
}

// Nonsense times, whatever they come from, are refused alone; the tenant takes
// samples of now and its head becomes blocks.
func TestNonsenseTimes(t *testing.T) {
	now := time.Now()
	bad := map[string]int64{
		"Go's zero time": time.Time{}.UnixMilli(), "smallest": math.MinInt64, "largest": math.MaxInt64, "zero": 0, "negative": -1,
		"seconds": now.Unix(), "microseconds": now.UnixMicro(), "nanoseconds": now.UnixNano(), "year 9999": latestTime,
		"two years ago": now.AddDate(-2, 0, 0).UnixMilli(),
	}
	d := openDB(t, t.TempDir(), func(c *Config) { c.PastWindow = 365 * 24 * time.Hour })
	for name, ts := range bad {
		h := prompb.TimeSeries{
			Labels:     []prompb.Label{{Name: "__name__", Value: "h"}},
			Histograms: []prompb.Histogram{prompb.FromIntHistogram(ts, tsdbutil.GenerateTestHistogram(1))},
		}
		id := "first " + name
		require.Equal(t, remotewrite.Conflict, remotewrite.KindOf(write(t, d, id, float("x", ts, 1))), name)
		require.Equal(t, remotewrite.Conflict, remotewrite.KindOf(write(t, d, id, h)), name)
		e := float("x", now.UnixMilli(), 1)
		e.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "1"}}, Timestamp: ts}}
		err := write(t, d, id, float("x", ts, 1), e, float("y", now.UnixMilli()-1000, 1))
		require.ErrorContains(t, err, ": 2 rejected, first: the time ", name)
		require.Equal(t, 2, remotewrite.StoredOf(err, remotewrite.Counts{}).Samples, name)
		require.NoError(t, d.Flush(t.Context(), id), name)
		tenant := d.opened(id)
		require.NotEmpty(t, tenant.db.Blocks(), name)
		require.NoError(t, write(t, d, id, float("x", now.UnixMilli()+1, 1)), name)
	}
	require.ErrorContains(t, write(t, d, "unit", float("x", now.UnixNano(), 1)), "nanoseconds instead of milliseconds")
	require.ErrorContains(t, write(t, d, "unit", float("x", now.Unix(), 1)), "seconds instead of milliseconds")
}

// Without windows the calendar is the bound, and a head that begins at a border of
// blocks before 1970 can be written to blocks.
func TestTimesWithoutWindows(t *testing.T) {
	d := openDB(t, t.TempDir(), func(c *Config) { c.FutureWindow = 0 })
	for _, ts := range []int64{math.MinInt64, math.MaxInt64, earliestTime - 1, latestTime + 1} {
		require.ErrorContains(t, write(t, d, "t", float("x", ts, 1)), "not in the years 0 to 9999")
	}
	require.NoError(t, write(t, d, "t", float("x", time.Time{}.UnixMilli(), 1)))
	require.NoError(t, d.Flush(t.Context(), "t"))
	tenant := d.opened("t")
	require.Len(t, tenant.db.Blocks(), 1)
}

// A start timestamp that cannot be is unknown; its sample is stored.
func TestNonsenseStartTimes(t *testing.T) {
	for st, want := range map[int64]int64{0: 0, -1: 0, math.MinInt64: 0, 101: 0, math.MaxInt64: 0, 100: 100, 5: 5} {
		require.Equal(t, want, startTime(st, 100), "%d", st)
	}
}

// Metadata that comes with the series of a classic histogram or a summary is about
// the family; a malformed message costs no sample.
func TestMetadataOfFamilies(t *testing.T) {
	histogram, summary, counter := []byte{8, 3}, []byte{8, 5}, []byte{8, 1}
	native := (&prompb.Histogram{}).Size()
	rest := append([]byte{4<<3 | 2}, byte(native))
	for _, c := range []struct {
		series    string
		msg, rest []byte
		want      string
	}{
		{"x_bucket", histogram, nil, "x"}, {"x_count", histogram, nil, "x"}, {"x_sum", histogram, nil, "x"},
		{"x_count", histogram, rest, "x_count"}, {"x_count", summary, nil, "x"}, {"x_bucket", summary, nil, "x_bucket"},
		{"x_count", counter, nil, "x_count"}, {"x_total", counter, nil, "x_total"}, {"_sum", histogram, nil, "_sum"},
	} {
		require.Equal(t, c.want, familyOf(c.series, c.msg, c.rest), "%s %v", c.series, c.msg)
	}

	d := openDB(t, t.TempDir(), nil)
	buf := remotewrite.NewBuffer(0)
	raw, err := (&prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{float("x", time.Now().UnixMilli(), 1)},
		Metadata:   []prompb.MetricMetadata{{MetricFamilyName: "y", Help: "h"}},
	}).Marshal()
	require.NoError(t, err)
	buf.B = append(append(buf.B, raw...), 3<<3|2, 1, 0xff) // and one that ends too early
	b, err := remotewrite.ScanV1(buf, buf.B)
	require.NoError(t, err)
	defer b.Close()
	err = d.Write(t.Context(), "t", b, nil)
	require.Equal(t, remotewrite.Invalid, remotewrite.KindOf(err))
	require.ErrorContains(t, err, "malformed_metadata: 1 rejected")
	require.Len(t, dump(t, d), 1)
	known, _, err := d.Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Contains(t, known, "y")
}
