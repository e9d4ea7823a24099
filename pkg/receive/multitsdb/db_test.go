package multitsdb

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openDB(t testing.TB, dir string, change func(*Config)) *DB {
	cfg := Config{
		Dir: dir, OutOfOrderWindow: 2 * time.Hour, FutureWindow: 10 * time.Minute, WALCompression: true,
		MaxExemplars: 100,
		External:     func(id string) labels.Labels { return labels.FromStrings("replica", "r", "tenant_id", id) },
	}
	if change != nil {
		change(&cfg)
	}
	d := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorIs(t, d.Write(t.Context(), "a", nil, nil), errClosed)
	require.NoError(t, d.Open(t.Context()))
	t.Cleanup(func() { require.NoError(t, d.Close(context.WithoutCancel(t.Context()))) })
	return d
}

func toBatch(t testing.TB, req *prompb.WriteRequest) *remotewrite.Batch {
	raw, err := req.Marshal()
	require.NoError(t, err)
	buf := remotewrite.NewBuffer(len(raw))
	buf.B = append(buf.B, raw...)
	b, err := remotewrite.ScanV1(buf, buf.B)
	require.NoError(t, err)
	return b
}

func float(name string, ts int64, v float64) prompb.TimeSeries {
	return prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}, {Name: "job", Value: "j"}},
		Samples: []prompb.Sample{{Timestamp: ts, Value: v}},
	}
}

func write(t testing.TB, d *DB, id string, series ...prompb.TimeSeries) error {
	b := toBatch(t, &prompb.WriteRequest{Timeseries: series})
	defer b.Close()
	return d.Write(t.Context(), id, b, nil)
}

// dump returns all samples as text, one line each, with the external labels.
func dump(t testing.TB, d *DB) []string {
	var out []string
	for _, s := range d.Stores() {
		set := s.Select(t.Context(), &storeapi.Request{
			MinTime: math.MinInt64, MaxTime: math.MaxInt64,
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
		})
		for set.Next() {
			series := set.At()
			for _, c := range series.Chunks {
				chunk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
				require.NoError(t, err)
				it := chunk.Iterator(nil)
				for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
					if typ != chunkenc.ValFloat {
						ts, h := it.AtFloatHistogram(nil)
						out = append(out, fmt.Sprint(series.Labels, ts, " count ", h.Count))
						continue
					}
					ts, v := it.At()
					out = append(out, fmt.Sprint(series.Labels, ts, " ", v))
				}
			}
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
	}
	sort.Strings(out)
	return out
}

// cached is the number of series in the tenant's cache.
func cached(t *tenantDB) int {
	n, _ := t.cache.Len()
	return n
}

func TestWriteAndRead(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	for i := range int64(3) {
		require.NoError(t, write(t, d, "a", float("x", now+i, float64(i)), float("y", now+i, 5)))
	}
	require.NoError(t, write(t, d, "b", float("x", now, 7)))
	require.Equal(t, []string{
		fmt.Sprintf(`{__name__="x", job="j", replica="r", tenant_id="a"} %d 0`, now),
		fmt.Sprintf(`{__name__="x", job="j", replica="r", tenant_id="a"} %d 1`, now+1),
		fmt.Sprintf(`{__name__="x", job="j", replica="r", tenant_id="a"} %d 2`, now+2),
		fmt.Sprintf(`{__name__="x", job="j", replica="r", tenant_id="b"} %d 7`, now),
		fmt.Sprintf(`{__name__="y", job="j", replica="r", tenant_id="a"} %d 5`, now),
		fmt.Sprintf(`{__name__="y", job="j", replica="r", tenant_id="a"} %d 5`, now+1),
		fmt.Sprintf(`{__name__="y", job="j", replica="r", tenant_id="a"} %d 5`, now+2),
	}, dump(t, d))
	require.Equal(t, 2, cached(d.opened("a")))
	stats := d.Stats()
	require.Equal(t, "a", stats[0].Tenant)
	require.Equal(t, uint64(2), stats[0].Series)
	require.Equal(t, remotewrite.Invalid, remotewrite.KindOf(write(t, d, "../evil", float("x", now, 7))))
	require.NoFileExists(t, filepath.Join(d.cfg.Dir, "..", "evil"))
}

func TestOnlyNamedSeries(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	b := toBatch(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{float("a", now, 1), float("b", now, 2), float("c", now, 3)}})
	defer b.Close()
	require.NoError(t, d.Write(t.Context(), "t", b, []uint32{0, 2}))
	require.Len(t, dump(t, d), 2)
}

func TestRejectedSamplesDoNotTakeOthersAlong(t *testing.T) {
	d := openDB(t, t.TempDir(), func(c *Config) {
		c.Limits = func(string) Limits { return Limits{ActiveSeries: 3} }
	})
	now := time.Now().UnixMilli()
	require.NoError(t, write(t, d, "t", float("x", now, 1)))
	hour := time.Hour.Milliseconds()
	check := func(kind remotewrite.Kind, text string, series ...prompb.TimeSeries) {
		t.Helper()
		before := len(dump(t, d))
		good := float("x", now+int64(before), 9)
		err := write(t, d, "t", append(series, good)...)
		require.Equal(t, kind, remotewrite.KindOf(err), "%v", err)
		require.ErrorContains(t, err, text)
		require.ErrorContains(t, err, "tenant t")
		require.Len(t, dump(t, d), before+1, "the good sample is stored")
		require.Equal(t, 1, remotewrite.StoredOf(err, remotewrite.Counts{}).Samples)
	}
	require.NoError(t, write(t, d, "t", float("x", now-hour, 1)), "one hour late is within the window")
	check(remotewrite.Conflict, "duplicate sample for timestamp", float("x", now, 2))
	check(remotewrite.Conflict, "too old sample", float("x", now-3*hour, 1))
	check(remotewrite.Conflict, "too_far_in_future", float("x", now+hour, 1))
	check(remotewrite.Invalid, "occurs twice", prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "job", Value: "j"}, {Name: "__name__", Value: "x"}, {Name: "job", Value: "j"}},
		Samples: []prompb.Sample{{Timestamp: now}},
	})
	check(remotewrite.Invalid, "UTF-8", float("\xff", now, 1))
	bad := prompb.FromIntHistogram(now, tsdbutil.GenerateTestHistogram(1))
	bad.PositiveSpans = []prompb.BucketSpan{{Length: 1 << 31}}
	check(remotewrite.Invalid, "spans", prompb.TimeSeries{
		Labels: []prompb.Label{{Name: "__name__", Value: "h"}}, Histograms: []prompb.Histogram{bad},
	})
	require.NoError(t, write(t, d, "t", float("x2", now, 1), float("x3", now, 1)))
	check(remotewrite.LimitExceeded, "limit of 3 active series", float("x4", now, 1))
	require.NoError(t, write(t, d, "other", float("x4", now, 1)), "other tenants are not affected")
	// The same value again is no conflict: senders repeat what they are not sure of.
	require.NoError(t, write(t, d, "t", float("x", now, 1)))
}

func TestHistogramsExemplarsMetadata(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	b := toBatch(t, &prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{{
			Labels:     []prompb.Label{{Name: "__name__", Value: "h"}},
			Histograms: []prompb.Histogram{prompb.FromIntHistogram(now, tsdbutil.GenerateTestHistogram(3))},
			Exemplars:  []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace", Value: "1"}}, Value: 4, Timestamp: now}},
		}, {
			Labels:     []prompb.Label{{Name: "__name__", Value: "fh"}},
			Histograms: []prompb.Histogram{prompb.FromFloatHistogram(now, tsdbutil.GenerateTestFloatHistogram(3))},
		}, {
			Labels:    []prompb.Label{{Name: "__name__", Value: "unknown"}},
			Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace", Value: "1"}}, Value: 4, Timestamp: now}},
		}},
		Metadata: []prompb.MetricMetadata{{MetricFamilyName: "h", Help: "its help", Type: prompb.MetricMetadata_HISTOGRAM}},
	})
	defer b.Close()
	require.NoError(t, d.Write(t.Context(), "t", b, nil))
	require.Len(t, dump(t, d), 2)
	m, _, err := d.Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Equal(t, map[string][]storeapi.Metadata{"h": {{Type: "histogram", Help: "its help"}}}, m)
	// A tenant that may not see others gets its own.
	m, _, err = d.Metadata(tenant.NewOnlyContext(tenant.NewContext(t.Context(), "other")), "", -1)
	require.NoError(t, err)
	require.Empty(t, m)
	m, _, err = d.Metadata(tenant.NewOnlyContext(tenant.NewContext(t.Context(), "t")), "", -1)
	require.NoError(t, err)
	require.Len(t, m, 1)
	q, err := d.opened("t").db.ExemplarQuerier(t.Context())
	require.NoError(t, err)
	ex, err := q.Select(0, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "h")})
	require.NoError(t, err)
	require.Len(t, ex, 1)
}

func TestRestartKeepsEverything(t *testing.T) {
	dir, now := t.TempDir(), time.Now().UnixMilli()
	d := openDB(t, dir, nil)
	require.NoError(t, write(t, d, "a", float("x", now, 1), float("y", now, 2)))
	before := dump(t, d)
	// A copy of the files, as a kill would leave them.
	copyDir := t.TempDir()
	require.NoError(t, os.CopyFS(copyDir, os.DirFS(dir)))
	after := openDB(t, copyDir, func(c *Config) { c.NoLockfile = true })
	require.Equal(t, before, dump(t, after))
	require.NoError(t, write(t, after, "a", float("x", now+1, 3)))
	require.Len(t, dump(t, after), 3)
	require.Equal(t, 1, cached(after.opened("a")))
}

func TestFlushMakesAlignedBlocks(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	hour := time.Hour.Milliseconds()
	start := time.Now().Add(-5*time.Hour).UnixMilli() / (2 * hour) * (2 * hour)
	n := 0
	for ts := start; ts < time.Now().UnixMilli(); ts += 15 * 60_000 {
		require.NoError(t, write(t, d, "a", float("x", ts, 1)))
		n++
	}
	require.NoError(t, write(t, d, "a", float("x", time.Now().UnixMilli()-50*60_000+7, 1)), "out of order")
	n++
	require.NoError(t, d.Flush(t.Context(), ""))
	require.Zero(t, d.Stats()[0].Series)
	require.Len(t, dump(t, d), n)
	require.Greater(t, len(d.opened("a").db.Blocks()), 2)
	for _, b := range d.opened("a").db.Blocks() {
		m := b.Meta()
		require.Equal(t, m.MinTime/(2*hour), (m.MaxTime-1)/(2*hour), "block [%d, %d) crosses a border", m.MinTime, m.MaxTime)
	}
	require.Zero(t, cached(d.opened("a")), "series that left the head left the cache")
	require.NoError(t, write(t, d, "a", float("x", time.Now().UnixMilli(), 1)))
	require.Len(t, dump(t, d), n+1)
}

func TestIdleTenantIsCompactedAndPruned(t *testing.T) {
	d := openDB(t, t.TempDir(), func(c *Config) { c.Retention = 24 * time.Hour })
	now := time.Now()
	require.NoError(t, write(t, d, "a", float("x", now.UnixMilli(), 1)))
	tn := d.opened("a")
	require.NoError(t, tn.compact(t.Context(), now))
	require.Equal(t, uint64(1), tn.db.Head().NumSeries())
	later := now.Add(7 * time.Hour)
	require.NoError(t, tn.compact(t.Context(), later))
	require.Zero(t, tn.db.Head().NumSeries())
	require.False(t, tn.prunable(later))
	require.True(t, tn.prunable(now.Add(26*time.Hour)))
	require.NoError(t, d.prune(tn, now), "not idle yet")
	require.DirExists(t, tn.dir)
	require.NoError(t, d.prune(tn, now.Add(26*time.Hour)))
	require.NoDirExists(t, tn.dir)
	require.NoError(t, write(t, d, "a", float("x", now.UnixMilli(), 1)), "it comes back with its next write")
}

func TestAppendable(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	app := d.Appendable("own").Appender(t.Context())
	_, err := app.Append(0, labels.FromStrings("__name__", "up"), time.Now().UnixMilli(), 1)
	require.NoError(t, err)
	require.NoError(t, app.Commit())
	require.Len(t, dump(t, d), 1)
	require.NoError(t, d.Close(t.Context()))
	app = d.Appendable("own").Appender(t.Context())
	_, err = app.Append(0, labels.FromStrings("__name__", "up"), time.Now().UnixMilli(), 1)
	require.ErrorIs(t, err, errClosed)
}

// A long head truncation must not leave references in the cache that belong to
// other series later.
func TestSeriesLeaveAndComeBack(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now()
	for round := range 3 {
		for i := range 50 {
			require.NoError(t, write(t, d, "a", float(fmt.Sprint("x", i), now.Add(time.Duration(round)*time.Second).UnixMilli(), float64(i))))
		}
		require.NoError(t, d.Flush(t.Context(), "a"))
	}
	for _, line := range dump(t, d) {
		var name string
		var i, v int
		_, err := fmt.Sscanf(line, `{__name__="x%d`, &i)
		require.NoError(t, err)
		_, err = fmt.Sscanf(line[len(line)-2:], "%d", &v)
		require.NoError(t, err)
		require.Equal(t, i%100, v, name+line)
	}
}
