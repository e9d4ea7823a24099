package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/prompb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// grpcAnswer is the answer that a client of thanos.Query received.
type grpcAnswer struct {
	warnings []string
	series   []*prompb.TimeSeries
	stats    []*storepb.QueryStats
	batches  int
	err      error
}

// queryMessages has the common parts of both kinds of answers.
type queryMessages interface {
	GetWarnings() string
	GetTimeseries() *prompb.TimeSeries
	GetTimeseriesBatch() *storepb.TimeSeriesBatch
	GetStats() *storepb.QueryStats
}

func receive[M queryMessages](t *testing.T, recv func() (M, error)) (a grpcAnswer) {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return a
		}
		if err != nil {
			a.err = err
			return a
		}
		require.Empty(t, a.stats, "statistics come last")
		if w := m.GetWarnings(); w != "" {
			require.Empty(t, a.series, "warnings come first")
			a.warnings = append(a.warnings, w)
		}
		if s := m.GetTimeseries(); s != nil {
			a.series = append(a.series, s)
		}
		if b := m.GetTimeseriesBatch(); b != nil {
			a.series = append(a.series, b.GetSeries()...)
			a.batches++
		}
		if s := m.GetStats(); s != nil {
			a.stats = append(a.stats, s)
		}
	}
}

func (q *process) grpc() storepb.QueryClient {
	return storepb.NewQueryClient(storetest.Dial(q.t.(*testing.T), func(srv *grpc.Server) { q.q.RegisterGRPC(srv) }, storerpc.ServerOptions()...))
}

func instant(t *testing.T, c storepb.QueryClient, in *storepb.QueryRequest) grpcAnswer {
	t.Helper()
	stream, err := c.Query(t.Context(), in)
	require.NoError(t, err)
	return receive(t, stream.Recv)
}

func ranged(t *testing.T, c storepb.QueryClient, in *storepb.QueryRangeRequest) grpcAnswer {
	t.Helper()
	stream, err := c.QueryRange(t.Context(), in)
	require.NoError(t, err)
	return receive(t, stream.Recv)
}

// lines prints each series with its points; histograms by count and sum.
func (a grpcAnswer) lines() []string {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	var out []string
	for _, s := range a.series {
		b := labels.NewScratchBuilder(len(s.GetLabels()))
		for _, l := range s.GetLabels() {
			b.Add(l.GetName(), l.GetValue())
		}
		line := b.Labels().String()
		for _, p := range s.GetSamples() {
			line += fmt.Sprintf(" %d:%s", p.GetTimestamp(), number(p.GetValue()))
		}
		for _, h := range s.GetHistograms() {
			line += fmt.Sprintf(" %d:%s/%s", h.GetTimestamp(), number(h.GetCountFloat()), number(h.GetSum()))
		}
		out = append(out, line)
	}
	return out
}

// httpLines prints the answer of the HTTP API in the same way.
func httpLines(t *testing.T, a apiAnswer) []string {
	t.Helper()
	require.Equal(t, 200, a.code, a.Error)
	type point [2]json.RawMessage
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	require.NoError(t, json.Unmarshal(a.Data, &data))
	print := func(p point) string {
		var seconds float64
		require.NoError(t, json.Unmarshal(p[0], &seconds))
		var text string
		if json.Unmarshal(p[1], &text) != nil {
			var h struct{ Count, Sum string }
			require.NoError(t, json.Unmarshal(p[1], &h))
			text = h.Count + "/" + h.Sum
		}
		return fmt.Sprintf(" %d:%s", int64(math.Round(seconds*1000)), text)
	}
	if data.ResultType == "scalar" {
		var p point
		require.NoError(t, json.Unmarshal(data.Result, &p))
		return []string{"{}" + print(p)}
	}
	var series []struct {
		Metric             map[string]string
		Value, Histogram   *point
		Values, Histograms []point
	}
	require.NoError(t, json.Unmarshal(data.Result, &series))
	var out []string
	for _, s := range series {
		line := labels.FromMap(s.Metric).String()
		for _, p := range append(s.Values, s.Histograms...) {
			line += print(p)
		}
		for _, p := range []*point{s.Value, s.Histogram} {
			if p != nil {
				line += print(*p)
			}
		}
		out = append(out, line)
	}
	return out
}

// mixedPair is a pair of replicas with floats and histograms of both kinds.
func mixedPair(t *testing.T) *process {
	a, b, us := haPair(t)
	for _, s := range []*backend{a, b} {
		app := s.db.Appender(t.Context())
		for i := range int64(40) {
			native := tsdbutil.GenerateTestFloatHistogram(i)
			_, err := app.AppendHistogram(0, labels.FromStrings("__name__", "native", "job", "x"), i*15000, nil, native)
			require.NoError(t, err)
			custom := tsdbutil.GenerateTestCustomBucketsHistogram(i)
			_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "custom", "job", "x"), i*15000, custom, nil)
			require.NoError(t, err)
		}
		require.NoError(t, app.Commit())
		s.write("odd", 0, 40, func(i int) float64 { return []float64{math.NaN(), math.Inf(1), math.Inf(-1), -0.5}[i%4] }, "job", "x")
	}
	return startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+us.addr, "--query.replica-label=replica")
}

func TestQueryService_AnswersAsHTTP(t *testing.T) {
	q := mixedPair(t)
	c := q.grpc()
	for _, expr := range []string{
		"up", "sum(up)", "native", "custom", "rate(native[5m])", "histogram_quantile(0.5, custom)", "1", "vector(1)", "time()",
		"odd", "up > 5", "topk(1, up)", "count_over_time(up[5m:30s])", `{__name__=~"up|native"}`, "-up", "sort_desc(up)", "up offset 1m",
	} {
		http := httpLines(t, q.get("/api/v1/query", "query", expr, "time", now))
		got := instant(t, c, &storepb.QueryRequest{Query: expr, TimeSeconds: 590, EnableDedup: true, EnablePartialResponse: true})
		require.NoError(t, got.err, expr)
		require.Equal(t, http, got.lines(), expr)
		require.Len(t, got.stats, 1)
		require.Empty(t, got.warnings)

		http = httpLines(t, q.get("/api/v1/query_range", "query", expr, "start", "100", "end", "700", "step", "50"))
		for _, batch := range []int64{0, 64} {
			got = ranged(t, c, &storepb.QueryRangeRequest{
				Query: expr, StartTimeSeconds: 100, EndTimeSeconds: 700, IntervalSeconds: 50, EnableDedup: true, EnablePartialResponse: true,
				ResponseBatchSize: batch,
			})
			require.NoError(t, got.err, expr)
			slices.Sort(http)
			lines := got.lines()
			slices.Sort(lines)
			require.Equal(t, http, lines, expr)
			require.Len(t, got.stats, 1)
			require.Equal(t, batch > 1 && len(lines) > 0, got.batches > 0)
		}
	}
	text := instant(t, c, &storepb.QueryRequest{Query: `"text"`, TimeSeconds: 590})
	require.NoError(t, text.err)
	require.Empty(t, text.series)
	require.Len(t, text.stats, 1)
	// Remarks of the engine are warnings.
	remark := instant(t, c, &storepb.QueryRequest{Query: "rate(up[5m])", TimeSeconds: 590, EnableDedup: true})
	require.NoError(t, remark.err)
	require.Len(t, remark.warnings, 1)
	require.Contains(t, remark.warnings[0], "PromQL info")
	require.Positive(t, remark.stats[0].GetSamplesTotal())
	require.Positive(t, remark.stats[0].GetPeakSamples())
}

func TestQueryService_HistogramsAreComplete(t *testing.T) {
	q := mixedPair(t)
	c := q.grpc()
	decode := func(h *prompb.Histogram) *histogram.FloatHistogram {
		spans := func(in []*prompb.BucketSpan) (out []histogram.Span) {
			for _, s := range in {
				out = append(out, histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()})
			}
			return out
		}
		return &histogram.FloatHistogram{
			CounterResetHint: histogram.CounterResetHint(h.GetResetHint()), Schema: h.GetSchema(),
			ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountFloat(), Count: h.GetCountFloat(), Sum: h.GetSum(),
			PositiveSpans: spans(h.GetPositiveSpans()), NegativeSpans: spans(h.GetNegativeSpans()),
			PositiveBuckets: h.GetPositiveCounts(), NegativeBuckets: h.GetNegativeCounts(), CustomValues: h.GetCustomValues(),
		}
	}
	for name, want := range map[string]*histogram.FloatHistogram{
		"native": tsdbutil.GenerateTestFloatHistogram(39),
		"custom": tsdbutil.GenerateTestCustomBucketsHistogram(39).ToFloat(nil),
	} {
		got := instant(t, c, &storepb.QueryRequest{Query: name, TimeSeconds: 590, EnableDedup: true})
		require.NoError(t, got.err)
		require.Len(t, got.series, 1)
		require.Len(t, got.series[0].GetHistograms(), 1)
		require.True(t, want.Equals(decode(got.series[0].GetHistograms()[0])), "%s: %v", name, got.series[0])
	}
}

func TestQueryService_Parameters(t *testing.T) {
	a, b, us := haPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+us.addr, "--query.replica-label=replica")
	c := q.grpc()
	count := func(in *storepb.QueryRequest) string {
		t.Helper()
		in.Query = "count(up)"
		if in.TimeSeconds == 0 {
			in.TimeSeconds = 590
		}
		got := instant(t, c, in)
		require.NoError(t, got.err)
		return strings.Join(got.lines(), " ")
	}
	require.Equal(t, "{} 590000:2", count(&storepb.QueryRequest{EnableDedup: true}))
	require.Equal(t, "{} 590000:3", count(&storepb.QueryRequest{}))
	require.Equal(t, "{} 590000:3", count(&storepb.QueryRequest{EnableDedup: true, ReplicaLabels: []string{"other"}}))
	only := []*storepb.StoreMatchers{{LabelMatchers: []*storepb.LabelMatcher{{Name: "__address__", Value: us.addr}}}}
	require.Equal(t, "{} 590000:1", count(&storepb.QueryRequest{EnableDedup: true, StoreMatchers: only}))
	require.Equal(t, "{} 1200000:2", count(&storepb.QueryRequest{EnableDedup: true, TimeSeconds: 1200, LookbackDeltaSeconds: 900}))
	require.Empty(t, count(&storepb.QueryRequest{EnableDedup: true, TimeSeconds: 1200}))
	require.Equal(t, "{} 590000:2", count(&storepb.QueryRequest{EnableDedup: true, Engine: storepb.EngineType_thanos, SkipChunks: true,
		QueryPlan: &storepb.QueryPlan{Encoding: &storepb.QueryPlan_Json{Json: []byte(`{"type":"x"}`)}}}), "the text counts, not the plan")
	shards := 0
	for i := range int64(2) {
		in := &storepb.QueryRequest{Query: "up", TimeSeconds: 590, EnableDedup: true, ShardInfo: &storepb.ShardInfo{ShardIndex: i, TotalShards: 2, By: true, Labels: []string{"cluster"}}}
		shards += len(instant(t, c, in).series)
	}
	require.Equal(t, 2, shards, "each series is in one shard")
	require.Len(t, instant(t, c, &storepb.QueryRequest{Query: "vector(time()) > 1e9"}).series, 1, "no time is the present")
}

func TestQueryService_WrongRequestsAreRefused(t *testing.T) {
	q := startQuerier(t)
	c := q.grpc()
	plan := &storepb.QueryPlan{Encoding: &storepb.QueryPlan_Json{Json: []byte("{")}}
	for name, in := range map[string]*storepb.QueryRequest{
		"empty":      {},
		"plan only":  {QueryPlan: plan},
		"not PromQL": {Query: "up{"},
		"timeout":    {Query: "up", TimeoutSeconds: -1},
		"lookback":   {Query: "up", LookbackDeltaSeconds: math.MaxInt64},
		"resolution": {Query: "up", MaxResolutionSeconds: -5},
		"time":       {Query: "up", TimeSeconds: math.MaxInt64},
		"engine":     {Query: "up", Engine: 7},
		"shard":      {Query: "up", ShardInfo: &storepb.ShardInfo{ShardIndex: 3, TotalShards: 2}},
		"matcher":    {Query: "up", StoreMatchers: []*storepb.StoreMatchers{{LabelMatchers: []*storepb.LabelMatcher{{Type: storepb.LabelMatcher_RE, Value: "("}}}}},
		"long":       {Query: strings.Repeat("1+", 1<<20) + "1"},
		"deep":       {Query: strings.Repeat("(", 20_000) + "1" + strings.Repeat(")", 20_000)},
	} {
		got := instant(t, c, in)
		require.Equal(t, codes.InvalidArgument, status.Code(got.err), "%s: %v", name, got.err)
	}
	require.Contains(t, instant(t, c, &storepb.QueryRequest{QueryPlan: plan}).err.Error(), "plan")
	for name, in := range map[string]*storepb.QueryRangeRequest{
		"plan only": {QueryPlan: plan, IntervalSeconds: 1},
		"no step":   {Query: "up", EndTimeSeconds: 10},
		"step":      {Query: "up", EndTimeSeconds: 10, IntervalSeconds: -1},
		"order":     {Query: "up", StartTimeSeconds: 10, EndTimeSeconds: 1, IntervalSeconds: 1},
		"points":    {Query: "up", EndTimeSeconds: 11_001, IntervalSeconds: 1},
		"start":     {Query: "up", StartTimeSeconds: math.MinInt64, EndTimeSeconds: math.MaxInt64, IntervalSeconds: 1},
	} {
		got := ranged(t, c, in)
		require.Equal(t, codes.InvalidArgument, status.Code(got.err), "%s: %v", name, got.err)
	}
	// The bounds of the engine hold here too.
	got := instant(t, c, &storepb.QueryRequest{Query: "max_over_time(vector(1)[100d:1ms])"})
	require.Error(t, got.err)
	require.NotEqual(t, codes.DeadlineExceeded, status.Code(got.err))
	require.Equal(t, codes.Aborted, status.Code(instant(t, c, &storepb.QueryRequest{Query: `vector(1) + on() group_left vector(1) + label_replace(vector(1), "0", "", "", "[")`}).err))
}

func TestQueryService_MissingStore(t *testing.T) {
	a, b, _ := haPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--query.replica-label=replica")
	c := q.grpc()
	b.kill()
	q.waitFor("missing", b.addr)
	got := instant(t, c, &storepb.QueryRequest{Query: "up", TimeSeconds: 590, EnableDedup: true, EnablePartialResponse: true})
	require.NoError(t, got.err)
	require.Len(t, got.series, 1)
	require.Len(t, got.warnings, 1)
	require.Contains(t, got.warnings[0], b.addr)
	got = instant(t, c, &storepb.QueryRequest{Query: "up", TimeSeconds: 590, EnableDedup: true})
	require.Error(t, got.err)
	require.Contains(t, got.err.Error(), b.addr)
}

func TestQueryService_OfOneTenant(t *testing.T) {
	red, blue := newBackend(t, "tenant_id", "red"), newBackend(t, "tenant_id", "blue")
	for _, b := range []*backend{red, blue} {
		b.write("up", 0, 40, func(int) float64 { return 1 })
	}
	q := startQuerier(t, "--endpoint="+red.addr, "--endpoint="+blue.addr, "--query.enforce-tenancy", "--query.default-tenant-id=red")
	c := q.grpc()
	ask := func(tenants ...string) grpcAnswer {
		ctx := t.Context()
		for _, id := range tenants {
			ctx = metadata.AppendToOutgoingContext(ctx, "thanos-tenant", id)
		}
		stream, err := c.Query(ctx, &storepb.QueryRequest{Query: `up{tenant_id=~".*"}`, TimeSeconds: 590, EnableDedup: true})
		require.NoError(t, err)
		return receive(t, stream.Recv)
	}
	require.Equal(t, []string{`{__name__="up", tenant_id="blue"} 590000:1`}, ask("blue").lines())
	require.Equal(t, []string{`{__name__="up", tenant_id="red"} 590000:1`}, ask().lines())
	require.Equal(t, codes.InvalidArgument, status.Code(ask("../blue").err))

	// With certificates the metadata does not count.
	q = startQuerier(t, "--endpoint="+red.addr, "--query.enforce-tenancy", "--query.tenant-certificate-field=commonName")
	c = q.grpc()
	refused := ask("red")
	require.Equal(t, codes.InvalidArgument, status.Code(refused.err))
	require.ErrorContains(t, refused.err, "client certificate")
}

// All missing stores are named, more than one answer has annotations.
func TestQueryService_NamesAllMissingStores(t *testing.T) {
	var args []string
	for i := range 15 {
		args = append(args, fmt.Sprintf("--endpoint=127.0.0.1:%d", i+1))
	}
	a := instant(t, startQuerier(t, args...).grpc(), &storepb.QueryRequest{Query: "up", TimeSeconds: 1, EnablePartialResponse: true})
	require.NoError(t, a.err)
	all := strings.Join(a.warnings, "\n")
	for i := range 15 {
		require.Contains(t, all, fmt.Sprintf("127.0.0.1:%d ", i+1))
	}
}
