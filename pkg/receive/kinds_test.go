package receive

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// kindsOfSamples is one series of each kind, two samples each.
func kindsOfSamples(t1, t2 int64) []prompb.TimeSeries {
	series := func(name string, hs ...prompb.Histogram) prompb.TimeSeries {
		return prompb.TimeSeries{Labels: named(name), Histograms: hs}
	}
	stale := &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
	return []prompb.TimeSeries{
		{Labels: named("float"), Samples: append(at(t1, 1.5), at(t2, math.Inf(1))...), Exemplars: []prompb.Exemplar{
			{Labels: []prompb.Label{{Name: "trace_id", Value: "abc"}}, Value: 7, Timestamp: t1},
		}},
		{Labels: named("float_stale"), Samples: append(at(t1, 1), at(t2, math.Float64frombits(value.StaleNaN))...)},
		series("histogram", prompb.FromIntHistogram(t1, tsdbutil.GenerateTestHistogram(1)), prompb.FromIntHistogram(t2, tsdbutil.GenerateTestHistogram(2))),
		series("histogram_stale", prompb.FromIntHistogram(t1, tsdbutil.GenerateTestHistogram(1)), prompb.FromIntHistogram(t2, stale)),
		series("histogram_gauge", prompb.FromIntHistogram(t1, tsdbutil.GenerateTestGaugeHistogram(3)), prompb.FromIntHistogram(t2, tsdbutil.GenerateTestGaugeHistogram(1))),
		series("histogram_float", prompb.FromFloatHistogram(t1, tsdbutil.GenerateTestFloatHistogram(1)), prompb.FromFloatHistogram(t2, tsdbutil.GenerateTestFloatHistogram(2))),
		series("histogram_gauge_float", prompb.FromFloatHistogram(t1, tsdbutil.GenerateTestGaugeFloatHistogram(3)), prompb.FromFloatHistogram(t2, tsdbutil.GenerateTestGaugeFloatHistogram(1))),
		series("histogram_custom", prompb.FromIntHistogram(t1, tsdbutil.GenerateTestCustomBucketsHistogram(1)), prompb.FromIntHistogram(t2, tsdbutil.GenerateTestCustomBucketsHistogram(2))),
		series("histogram_custom_float", prompb.FromFloatHistogram(t1, tsdbutil.GenerateTestCustomBucketsFloatHistogram(1)), prompb.FromFloatHistogram(t2, tsdbutil.GenerateTestCustomBucketsFloatHistogram(2))),
	}
}

// textOf writes a sample so that two can be compared, whatever NaN is in them.
func textOf(h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	kind := "float"
	if h != nil {
		kind, fh = "integer", h.ToFloat(nil)
	}
	if value.IsStaleNaN(fh.Sum) {
		return kind + " histogram, stale"
	}
	return fmt.Sprintf("%s histogram %s, gauge: %v, bounds: %v", kind, fh, fh.CounterResetHint == histogram.GaugeType, fh.CustomValues)
}

func textOfFloat(v float64) string {
	if value.IsStaleNaN(v) {
		return "stale"
	}
	return fmt.Sprint(v)
}

// wanted returns the expected samples of series, by metric and time.
func wanted(series []prompb.TimeSeries) map[string]string {
	out := map[string]string{}
	for _, ts := range series {
		name := ts.Labels[0].Value
		for _, s := range ts.Samples {
			out[fmt.Sprint(name, "@", s.Timestamp)] = textOfFloat(s.Value)
		}
		for _, h := range ts.Histograms {
			if h.IsFloatHistogram() {
				out[fmt.Sprint(name, "@", h.Timestamp)] = textOf(nil, h.ToFloatHistogram())
			} else {
				out[fmt.Sprint(name, "@", h.Timestamp)] = textOf(h.ToIntHistogram(), nil)
			}
		}
	}
	return out
}

func readSamples(t *testing.T, name string, it chunkenc.Iterator, out map[string]string) {
	t.Helper()
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		text := ""
		switch typ {
		case chunkenc.ValFloat:
			_, v := it.At()
			text = textOfFloat(v)
		case chunkenc.ValHistogram:
			_, h := it.AtHistogram(nil)
			text = textOf(h, nil)
		case chunkenc.ValFloatHistogram:
			_, fh := it.AtFloatHistogram(nil)
			text = textOf(nil, fh)
		}
		out[fmt.Sprint(name, "@", it.AtT())] = text
	}
	require.NoError(t, it.Err())
}

// fromStore reads all samples of a node's store.
func fromStore(t *testing.T, s storeapi.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	set := s.Select(t.Context(), &storeapi.Request{
		MinTime: 0, MaxTime: math.MaxInt64, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
	})
	defer set.Close()
	for set.Next() {
		for _, c := range set.At().Chunks {
			chunk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
			require.NoError(t, err)
			readSamples(t, set.At().Labels.Get("__name__"), chunk.Iterator(nil), out)
		}
	}
	require.NoError(t, set.Err())
	return out
}

// fromBucket reads all samples of the blocks in a bucket.
func fromBucket(t *testing.T, bkt bucket.Bucket) map[string]string {
	t.Helper()
	out := map[string]string{}
	var ids []string
	require.NoError(t, bkt.List(t.Context(), "", func(o bucket.Object) error {
		if path.Base(o.Name) == "meta.json" {
			ids = append(ids, path.Dir(o.Name))
		}
		return nil
	}))
	for _, id := range ids {
		dir := filepath.Join(t.TempDir(), id)
		_, err := block.Download(t.Context(), bkt, ulid.MustParse(id), dir, block.DownloadConfig{})
		require.NoError(t, err)
		b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, nil, nil)
		require.NoError(t, err)
		q, err := tsdb.NewBlockQuerier(b, 0, math.MaxInt64)
		require.NoError(t, err)
		set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
		for set.Next() {
			readSamples(t, set.At().Labels().Get("__name__"), set.At().Iterator(nil), out)
		}
		require.NoError(t, set.Err())
		require.NoError(t, q.Close())
		require.NoError(t, b.Close())
	}
	return out
}

// Samples of every kind come back as they were sent, by each protocol, through a
// ring of three, from the heads and from the blocks in the bucket.
func TestKindsOfSamples_AreReadAsSent(t *testing.T) {
	t2 := time.Now().UnixMilli()
	t1 := t2 - 15_000
	series := kindsOfSamples(t1, t2)
	metadata := prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "float", Help: "Help of float.", Unit: "s"}
	requests := map[string]struct {
		path   string
		body   []byte
		header []string
		want   map[string]string
	}{
		"remote write 1.0": {"/api/v1/receive", marshal(t, &prompb.WriteRequest{Timeseries: series, Metadata: []prompb.MetricMetadata{metadata}}), nil, wanted(series)},
		"remote write 2.0": {"/api/v1/receive", version2WithMetadata(t, series), version2Headers[:4], wanted(series)},
		"OTLP":             {"/api/v1/otlp", otlpKinds(t, t1, t2), []string{"Content-Type", "application/x-protobuf"}, otlpWanted(t1, t2)},
	}
	for name, c := range requests {
		t.Run(name, func(t *testing.T) {
			var nodes []*member
			var buckets []bucket.Bucket
			lis := []net.Listener{listen(t), listen(t), listen(t)}
			for i := range lis {
				cfg := DefaultConfig()
				cfg.Hashrings, cfg.ReplicationFactor = ringOf(lis...), 3
				cfg.ForwardTimeout = flags.Duration(5 * time.Second)
				cfg.TSDB.MaxExemplars = 100
				buckets = append(buckets, bucket.NewMemory())
				nodes = append(nodes, start(t, cfg, lis[i], buckets[i]))
			}
			a := post(t, nodes[0].url(c.path), c.body, c.header...)
			require.Equal(t, 2, a.code/100, a.body)
			for i, m := range nodes {
				require.Eventually(t, func() bool { return len(fromStore(t, m.Store())) == len(c.want) }, 10*time.Second, 10*time.Millisecond)
				require.Equal(t, c.want, fromStore(t, m.Store()), "node %d", i)
			}
			checkMetadata(t, nodes[0])
			checkExemplar(t, nodes[2], t1)
			for i, m := range nodes {
				require.Equal(t, 200, get(t, m, "POST", "/-/prepare-downscale").code)
				require.Equal(t, c.want, fromBucket(t, buckets[i]), "bucket %d", i)
				require.Equal(t, c.want, fromStore(t, m.Store()), "node %d, after the head became a block", i)
			}
		})
	}
}

func version2WithMetadata(t *testing.T, series []prompb.TimeSeries) []byte {
	table := writev2.NewSymbolTable()
	req := version2Of(t, &table, series)
	req.Timeseries[0].Metadata = writev2.Metadata{
		Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: table.Symbolize("Help of float."), UnitRef: table.Symbolize("s"),
	}
	req.Symbols = table.Symbols()
	return marshal(t, req)
}

func checkMetadata(t *testing.T, m *member) {
	t.Helper()
	meta, _, err := m.Metadata().Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	i := slices.IndexFunc(meta["float"], func(m storeapi.Metadata) bool { return m.Help == "Help of float." })
	require.GreaterOrEqual(t, i, 0, "%v", meta)
}

func checkExemplar(t *testing.T, m *member, at int64) {
	t.Helper()
	got, _, err := m.reads.Exemplars(t.Context(), &storeapi.ExemplarRequest{
		MinTime: 0, MaxTime: math.MaxInt64, Selectors: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "float|counted_total")}},
	})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Len(t, got[0].Exemplars, 1)
	require.Equal(t, at, got[0].Exemplars[0].Ts)
	require.InDelta(t, 7, got[0].Exemplars[0].Value, 0)
	require.Equal(t, "abc", got[0].Exemplars[0].Labels.Get("trace_id"))
}

// otlpKinds has a gauge, one that ends, a counter with an exemplar, and an
// exponential histogram.
func otlpKinds(t *testing.T, t1, t2 int64) []byte {
	md := pmetric.NewMetrics()
	ms := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	at := func(ms int64) pcommon.Timestamp { return pcommon.NewTimestampFromTime(time.UnixMilli(ms)) }
	g := ms.AppendEmpty()
	g.SetName("float")
	g.SetDescription("Help of float.")
	g.SetEmptyGauge()
	for i, ts := range []int64{t1, t2} {
		p := g.Gauge().DataPoints().AppendEmpty()
		p.SetTimestamp(at(ts))
		p.SetDoubleValue(1.5 + float64(i))
	}
	counted := ms.AppendEmpty()
	counted.SetName("counted")
	sum := counted.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetTimestamp(at(t1))
	p.SetIntValue(5)
	e := p.Exemplars().AppendEmpty()
	e.SetTimestamp(at(t1))
	e.SetDoubleValue(7)
	e.FilteredAttributes().PutStr("trace_id", "abc")
	ends := ms.AppendEmpty()
	ends.SetName("float_stale")
	points := ends.SetEmptyGauge().DataPoints()
	points.AppendEmpty().SetTimestamp(at(t1))
	points.AppendEmpty().SetTimestamp(at(t2))
	points.At(1).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	h := ms.AppendEmpty()
	h.SetName("histogram")
	eh := h.SetEmptyExponentialHistogram()
	eh.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for i, ts := range []int64{t1, t2} {
		p := eh.DataPoints().AppendEmpty()
		p.SetTimestamp(at(ts))
		p.SetScale(1)
		p.SetSum(10)
		p.SetCount(uint64(4 + 2*i))
		p.SetZeroCount(1)
		p.Positive().SetOffset(3)
		p.Positive().BucketCounts().FromRaw([]uint64{1, uint64(2 + 2*i)})
	}
	raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	return raw
}

func otlpWanted(t1, t2 int64) map[string]string {
	out := map[string]string{fmt.Sprint("counted_total@", t1): "5"}
	for i, ts := range []int64{t1, t2} {
		out[fmt.Sprint("float@", ts)] = fmt.Sprint(1.5 + float64(i))
		out[fmt.Sprint("histogram@", ts)] = textOf(&histogram.Histogram{
			Schema: 1, Count: uint64(4 + 2*i), Sum: 10, ZeroThreshold: 1e-128, ZeroCount: 1,
			PositiveSpans: []histogram.Span{{Offset: 4, Length: 2}}, PositiveBuckets: []int64{1, int64(1 + 2*i)},
		}, nil)
	}
	out[fmt.Sprint("float_stale@", t1)], out[fmt.Sprint("float_stale@", t2)] = "0", "stale"
	return out
}
