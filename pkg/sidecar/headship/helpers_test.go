package headship_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/sidecar/headship"
)

const (
	minute = int64(60_000)
	hour   = 60 * minute
)

// fixture is a TSDB as Prometheus has it, and a Shipper beside it.
type fixture struct {
	t       *testing.T
	dir     string
	opts    *tsdb.Options
	db      *tsdb.DB
	mem     bucket.Bucket
	bucket  *buckettest.Faulty
	shipper *headship.Shipper
	reg     *prometheus.Registry
	shipped map[ulid.ULID]bool
	labels  labels.Labels
}

func newFixture(t *testing.T, change func(*tsdb.Options)) *fixture {
	opts := tsdb.DefaultOptions()
	opts.WALSegmentSize = 32 << 10
	opts.RetentionDuration = 0
	opts.WALCompression = compression.Snappy
	opts.NoLockfile = false
	if change != nil {
		change(opts)
	}
	mem := bucket.NewMemory()
	f := &fixture{
		t: t, dir: t.TempDir(), opts: opts, mem: mem, bucket: buckettest.NewFaulty(mem, nil),
		shipped: map[ulid.ULID]bool{}, labels: labels.FromStrings("cluster", "eu", "replica", "0"),
	}
	f.open()
	f.newShipper()
	return f
}

func (f *fixture) open() {
	db, err := tsdb.Open(f.dir, nil, nil, f.opts, nil)
	require.NoError(f.t, err)
	db.DisableCompactions()
	f.db = db
	f.t.Cleanup(func() { _ = db.Close() })
}

// newShipper replaces the Shipper, as a restart of the sidecar does.
func (f *fixture) newShipper() {
	f.reg = prometheus.NewRegistry()
	var err error
	f.shipper, err = headship.New(headship.Config{Dir: f.dir, Interval: time.Minute}, headship.Deps{
		Bucket: f.bucket, Registerer: f.reg,
		Labels:  func() labels.Labels { return f.labels },
		Shipped: func(id ulid.ULID) bool { return f.shipped[id] },
	})
	require.NoError(f.t, err)
}

func (f *fixture) sync() {
	f.t.Helper()
	require.NoError(f.t, f.shipper.Sync(f.t.Context()))
}

// scrape appends one sample of each of n series, whose names begin with prefix.
func (f *fixture) scrape(prefix string, n int, ts int64) {
	f.t.Helper()
	app := f.db.Appender(f.t.Context())
	for i := range n {
		_, err := app.Append(0, labels.FromStrings("__name__", prefix, "i", fmt.Sprint(i)), ts, float64(ts)+float64(i))
		require.NoError(f.t, err)
	}
	require.NoError(f.t, app.Commit())
}

// histograms appends a native histogram and one of floats.
func (f *fixture) histograms(ts int64, i int) {
	app := f.db.Appender(f.t.Context())
	_, err := app.AppendHistogram(0, labels.FromStrings("__name__", "h"), ts, tsdbutil.GenerateTestHistogram(int64(i)), nil)
	require.NoError(f.t, err)
	_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "fh"), ts, nil, tsdbutil.GenerateTestFloatHistogram(int64(i)))
	require.NoError(f.t, err)
	_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "nhcb"), ts, tsdbutil.GenerateTestCustomBucketsHistogram(int64(i)), nil)
	require.NoError(f.t, err)
	require.NoError(f.t, app.Commit())
}

// compact cuts blocks, and marks them as shipped if ship.
func (f *fixture) compact(ship bool) {
	f.t.Helper()
	require.NoError(f.t, f.db.Compact(f.t.Context()))
	if ship {
		f.ship()
	}
}

// ship marks all blocks of the directory as shipped.
func (f *fixture) ship() {
	for _, b := range f.db.Blocks() {
		f.shipped[b.Meta().ULID] = true
	}
}

// samples are rows "series time value".
type samples map[string]bool

// inDB returns the samples of the TSDB from mint on.
func (f *fixture) inDB(mint int64) samples {
	q, err := f.db.Querier(mint, 1<<60)
	require.NoError(f.t, err)
	defer q.Close()
	out := samples{}
	set := q.Select(f.t.Context(), true, &storage.SelectHints{Start: mint, End: 1 << 60}, labels.MustNewMatcher(labels.MatchNotEqual, "__name__", ""))
	for set.Next() {
		it := set.At().Iterator(nil)
		for v := it.Next(); v != chunkenc.ValNone; v = it.Next() {
			switch v {
			case chunkenc.ValFloat:
				ts, x := it.At()
				out[row(set.At().Labels(), ts, x)] = true
			case chunkenc.ValHistogram:
				ts, h := it.AtHistogram(nil)
				out[row(set.At().Labels(), ts, histogramText(h.ToFloat(nil)))] = true
			case chunkenc.ValFloatHistogram:
				ts, h := it.AtFloatHistogram(nil)
				out[row(set.At().Labels(), ts, histogramText(h))] = true
			}
		}
		require.NoError(f.t, it.Err())
	}
	require.NoError(f.t, set.Err())
	return out
}

func row(ls labels.Labels, ts int64, v any) string { return fmt.Sprintf("%s %d %v", ls, ts, v) }

// histogramText leaves out the counter reset hint, which a query decides.
func histogramText(h *histogram.FloatHistogram) string {
	h = h.Copy()
	h.CounterResetHint = 0
	return h.String()
}

// generations lists the bucket.
func (f *fixture) generations() []*headlog.Generation {
	var l headlog.Listing
	require.NoError(f.t, f.mem.List(f.t.Context(), "", func(o bucket.Object) error {
		l.Add(o.Name, o.Size, o.LastModified)
		return nil
	}))
	require.Zero(f.t, l.Ignored)
	return l.Generations()
}

// one returns the only generation.
func (f *fixture) one() *headlog.Generation {
	f.t.Helper()
	g := f.generations()
	require.Len(f.t, g, 1)
	return g[0]
}

// inBucket returns the samples of a generation as a reader of the format finds them. It
// checks that no piece names a wrong range of times and that each reference is known.
func (f *fixture) inBucket(g *headlog.Generation) samples {
	f.t.Helper()
	refs, out := map[chunks.HeadSeriesRef]labels.Labels{}, samples{}
	dec := record.NewDecoder(nil, nil)
	for _, p := range g.Pieces {
		rc, err := f.mem.Get(f.t.Context(), p.Object)
		require.NoError(f.t, err)
		r, err := headlog.NewReader(rc, p.Name)
		require.NoError(f.t, err)
		lo, hi := int64(1<<62), int64(-1<<62)
		add := func(ref chunks.HeadSeriesRef, ts int64, v any) {
			series, ok := refs[ref]
			require.True(f.t, ok, "sample of unknown series %d in %s", ref, p.Name)
			out[row(series, ts, v)] = true
			lo, hi = min(lo, ts), max(hi, ts)
		}
		for r.Next() {
			rec := r.Record()
			switch dec.Type(rec) {
			case record.Series:
				series, err := dec.Series(rec, nil)
				require.NoError(f.t, err)
				for _, s := range series {
					refs[s.Ref] = s.Labels
				}
			case record.Samples, record.SamplesV2:
				ss, err := dec.Samples(rec, nil)
				require.NoError(f.t, err)
				for _, s := range ss {
					add(s.Ref, s.T, s.V)
				}
			case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
				ss, err := dec.HistogramSamples(rec, nil)
				require.NoError(f.t, err)
				for _, s := range ss {
					add(s.Ref, s.T, histogramText(s.H.ToFloat(nil)))
				}
			case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
				ss, err := dec.FloatHistogramSamples(rec, nil)
				require.NoError(f.t, err)
				for _, s := range ss {
					add(s.Ref, s.T, histogramText(s.FH))
				}
			case record.Tombstones:
			default:
				f.t.Fatalf("record of type %s shipped", dec.Type(rec))
			}
		}
		require.NoError(f.t, r.Err())
		require.NoError(f.t, rc.Close())
		r.Close()
		if p.Kind.HasSamples() {
			require.Equal(f.t, []int64{lo, hi}, []int64{p.MinTime, p.MaxTime}, "times of %s", p.Name)
		}
	}
	return out
}

// missing returns the rows of want that got does not have.
func missing(want, got samples) []string {
	var out []string
	for r := range want {
		if !got[r] {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), 10)]
}

// metric returns the value of a metric without labels.
func (f *fixture) metric(name string) float64 {
	families, err := f.reg.Gather()
	require.NoError(f.t, err)
	for _, m := range families {
		if m.GetName() == "hindsight_sidecar_head_"+name {
			return m.Metric[0].GetCounter().GetValue() + m.Metric[0].GetGauge().GetValue()
		}
	}
	f.t.Fatalf("no metric %s", name)
	return 0
}

// kinds counts the pieces by kind.
func kinds(g *headlog.Generation) map[headlog.Kind]int {
	out := map[headlog.Kind]int{}
	for _, p := range g.Pieces {
		out[p.Kind]++
	}
	return out
}

// walBytes returns the bytes of the segments and checkpoints on disk.
func walBytes(t testing.TB, dir, part string) int64 {
	var n int64
	require.NoError(t, filepath.Walk(filepath.Join(dir, part), func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && !strings.HasSuffix(info.Name(), ".tmp") {
			n += info.Size()
		}
		return err
	}))
	return n
}

// requireEqual reports a few rows of the difference.
func requireEqual(t *testing.T, want, got samples, msg ...any) {
	t.Helper()
	require.Empty(t, missing(want, got), msg...)
	require.Empty(t, missing(got, want), msg...)
}
