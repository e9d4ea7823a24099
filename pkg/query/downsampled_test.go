package query

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/features"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const (
	minuteMs = int64(60_000)
	dayMs    = 24 * 60 * minuteMs
	// testDays are the days of data, each in a block of its own.
	testDays = 4
	// scrapeOffset keeps scrapes off the ends of windows.
	scrapeOffset = 7000
)

// sample is a float, or a histogram where h is set.
type sample struct {
	t int64
	v float64
	h *histogram.Histogram
}

// rawChunks encodes samples in chunks of at most 120.
func rawChunks(t testing.TB, samples []sample) []chunks.Meta {
	var out []chunks.Meta
	var app chunkenc.Appender
	n := 0
	for i, s := range samples {
		if n == 0 || n == 120 || (s.h == nil) != (samples[i-1].h == nil) {
			out, app, n = append(out, newChunk(s)), nil, 0
		}
		last := &out[len(out)-1]
		if app == nil {
			var err error
			app, err = last.Chunk.Appender()
			require.NoError(t, err)
		}
		if s.h == nil {
			app.Append(0, s.t, s.v)
		} else {
			c, recoded, next, err := app.AppendHistogram(nil, 0, s.t, s.h.Copy(), false)
			require.NoError(t, err)
			if c != nil && !recoded { // a reset
				out, n = append(out, chunks.Meta{MinTime: s.t}), 0
				last = &out[len(out)-1]
			}
			if c != nil {
				last.Chunk = c
			}
			app = next
		}
		last.MaxTime = s.t
		n++
	}
	return out
}

func newChunk(s sample) chunks.Meta {
	c := chunks.Meta{MinTime: s.t, Chunk: chunkenc.NewXORChunk()}
	if s.h != nil {
		c.Chunk = chunkenc.NewHistogramChunk()
	}
	return c
}

// levels is a store of blocks of a day each, in the three resolutions.
type levels struct {
	series []labels.Labels
	// chunks by series, resolution and day.
	chunks [][3][testDays][]storeapi.Chunk
	// kept says which resolutions are left of each day.
	kept [testDays][3]bool
	// silent says that the store does not tell resolutions, as those of Thanos.
	silent bool
}

var resolutions = [3]int64{0, aggr.Resolution5m, aggr.Resolution1h}

// add downsamples a series.
func (l *levels) add(t testing.TB, lset labels.Labels, samples []sample) {
	var one [3][testDays][]storeapi.Chunk
	for day := range testDays {
		var of []sample
		for _, s := range samples {
			if s.t/dayMs == int64(day) {
				of = append(of, s)
			}
		}
		metas := rawChunks(t, of)
		for res := range resolutions {
			if res > 0 {
				var err error
				metas, err = downsample.New(resolutions[res-1], resolutions[res]).Series(metas)
				require.NoError(t, err)
			}
			for _, c := range metas {
				one[res][day] = append(one[res][day], storeChunk(t, c))
			}
		}
	}
	l.series, l.chunks = append(l.series, lset), append(l.chunks, one)
}

func storeChunk(t testing.TB, c chunks.Meta) storeapi.Chunk {
	out := storeapi.Chunk{MinTime: c.MinTime, MaxTime: c.MaxTime}
	b := slices.Clone(c.Chunk.Bytes())
	if c.Chunk.Encoding() != aggr.Encoding {
		out.Raw = storeapi.Data{Encoding: c.Chunk.Encoding(), Bytes: b}
		return out
	}
	a, err := aggr.Decode(b)
	require.NoError(t, err)
	out.Aggr = &a
	return out
}

// choose is the resolution that a store answers with, or -1.
func (l *levels) choose(day int, r *storeapi.Request) int {
	for res := 2; res >= 0; res-- {
		if l.kept[day][res] && resolutions[res] <= r.MaxResolution {
			return res
		}
	}
	for res := range resolutions {
		if l.kept[day][res] && r.FillCoarser {
			return res
		}
	}
	return -1
}

func (l *levels) Info() storeapi.Info { return storeapi.Info{} }

func (l *levels) Select(_ context.Context, r *storeapi.Request) storeapi.SeriesSet {
	var out []storeapi.Series
next:
	for i, lset := range l.series {
		for _, m := range r.Matchers {
			if !m.Matches(lset.Get(m.Name)) {
				continue next
			}
		}
		s := storeapi.Series{Labels: lset}
		for day := range testDays {
			res := l.choose(day, r)
			if res < 0 {
				continue
			}
			for _, c := range l.chunks[i][res][day] {
				// As the gateway: coarse data reaches back for one window.
				if c.MinTime <= r.MaxTime && c.MaxTime >= r.MinTime-resolutions[res] {
					c = wantedOf(c, r.Aggregates)
					if c.Aggr != nil && !l.silent {
						c.Aggr.Resolution = resolutions[res]
					}
					s.Chunks = append(s.Chunks, c)
				}
			}
		}
		if len(s.Chunks) > 0 {
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, k int) bool { return labels.Compare(out[i].Labels, out[k].Labels) < 0 })
	return storeapi.NewSliceSet(out)
}

// wantedOf leaves only the aggregates that were asked for.
func wantedOf(c storeapi.Chunk, want []storeapi.Aggregate) storeapi.Chunk {
	if c.Aggr == nil {
		return c
	}
	all := *c.Aggr
	c.Aggr = &storeapi.Aggregates{}
	for _, a := range want {
		switch a {
		case storeapi.AggregateCount:
			c.Aggr.Count = all.Count
		case storeapi.AggregateSum:
			c.Aggr.Sum = all.Sum
		case storeapi.AggregateMin:
			c.Aggr.Min = all.Min
		case storeapi.AggregateMax:
			c.Aggr.Max = all.Max
		case storeapi.AggregateCounter:
			c.Aggr.Counter = all.Counter
		}
	}
	return c
}

func (l *levels) LabelNames(context.Context, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, nil
}

func (l *levels) LabelValues(context.Context, string, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, nil
}

// world has one series of each kind, scraped every minute.
func world(t testing.TB) *levels {
	l := &levels{}
	r := rand.New(rand.NewPCG(7, 7))
	all := func(f func(i int64) sample) []sample {
		var out []sample
		for i := range testDays * 24 * 60 {
			s := f(int64(i))
			s.t = int64(i)*minuteMs + scrapeOffset
			out = append(out, s)
		}
		return out
	}
	l.add(t, labels.FromStrings("__name__", "gauge", "of", "saw"), all(func(i int64) sample { return sample{v: float64(i % 120)} }))
	l.add(t, labels.FromStrings("__name__", "const"), all(func(int64) sample { return sample{v: 0.1} }))
	l.add(t, labels.FromStrings("__name__", "even_total"), all(func(i int64) sample { return sample{v: float64(10 * i)} }))
	// Resets at random, and exactly where a day begins.
	v := 0.0
	l.add(t, labels.FromStrings("__name__", "reset_total"), all(func(i int64) sample {
		if i%(24*60) == 0 || r.IntN(240) == 0 {
			v = 0
		}
		v += 10
		return sample{v: v}
	}))
	n := uint64(0)
	l.add(t, labels.FromStrings("__name__", "hist"), all(func(i int64) sample {
		if i%240 == 239 {
			n = 0
		}
		n += 10
		return sample{h: exponentialOf(n)}
	}))
	l.add(t, labels.FromStrings("__name__", "even_hist"), all(func(i int64) sample { return sample{h: exponentialOf(uint64(10 * i))} }))
	l.add(t, labels.FromStrings("__name__", "gauge_hist"), all(func(i int64) sample {
		h := exponentialOf(uint64(500 + i%120))
		h.CounterResetHint = histogram.GaugeType
		return sample{h: h}
	}))
	m := uint64(0)
	l.add(t, labels.FromStrings("__name__", "custom"), all(func(i int64) sample {
		bounds := []float64{1, 5}
		if i >= 3000 {
			bounds = []float64{1, 5, 25}
		}
		if i%1000 == 0 {
			m = 0
		}
		m += 10
		return sample{h: &histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, CustomValues: bounds, Count: m, Sum: float64(m),
			PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{int64(m / 2), 0},
		}}
	}))
	// A series that ends in the middle of a window.
	var short []sample
	for i := range int64(1500) {
		short = append(short, sample{t: i*minuteMs + scrapeOffset, v: 1})
	}
	l.add(t, labels.FromStrings("__name__", "short"), short)
	return l
}

// exponentialOf has n observations in two buckets.
func exponentialOf(n uint64) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 2, ZeroThreshold: 0.001, Count: n, Sum: float64(n) * 1.5,
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 2}}, PositiveBuckets: []int64{int64(n / 2), 0},
	}
}

func testEngine(t testing.TB) *engine {
	cfg, err := parseConfig()
	require.NoError(t, err)
	p := parser.NewParser(parser.Options{EnableExperimentalFunctions: true})
	e, err := newEngine(&cfg, p, features.NewRegistry(), newMemoryBudget(0, nil), Deps{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// asked is one way to read the world.
type asked struct {
	kept [testDays][3]bool
	max  int64 // resolution
	// silent stores do not tell resolutions.
	silent bool
}

func everyDay(kept ...bool) (out [testDays][3]bool) {
	for i := range out {
		out[i] = [3]bool(kept)
	}
	return out
}

// The range of queries over the world: steps that meet every place within a window.
const (
	askedFrom = dayMs + 3*60*minuteMs
	askedStep = 37 * time.Minute
)

// askAt evaluates at one time, and returns the floats by their labels.
func askAt(t testing.TB, e *engine, l *levels, a asked, expr string, at int64) map[string]float64 {
	t.Helper()
	l.kept, l.silent = a.kept, a.silent
	p := queryopts.Options{MaxSourceResolution: a.max}
	ctx := queryopts.NewContext(t.Context(), p)
	q, err := e.NewInstantQuery(ctx, NewQueryable(l, QueryableConfig{Defaults: p}), nil, expr, time.UnixMilli(at))
	require.NoError(t, err, expr)
	defer q.Close()
	v, err := q.Exec(ctx).Vector()
	require.NoError(t, err, expr)
	out := map[string]float64{}
	for _, s := range v {
		out[s.Metric.String()] = s.F
	}
	return out
}

// ask evaluates at steps that meet every place within a window.
func ask(t testing.TB, e *engine, l *levels, a asked, expr string) (promql.Matrix, []string) {
	t.Helper()
	l.kept, l.silent = a.kept, a.silent
	p := queryopts.Options{MaxSourceResolution: a.max}
	ctx := queryopts.NewContext(t.Context(), p)
	q, err := e.NewRangeQuery(ctx, NewQueryable(l, QueryableConfig{Defaults: p}), nil, expr, time.UnixMilli(askedFrom), time.UnixMilli(4*dayMs-minuteMs), askedStep)
	require.NoError(t, err, expr)
	defer q.Close()
	res := q.Exec(ctx)
	require.NoError(t, res.Err, expr)
	m, err := res.Matrix()
	require.NoError(t, err)
	warnings, _ := res.Warnings.AsStrings(expr, 0, 0)
	var out promql.Matrix
	for _, s := range m {
		require.Empty(t, s.Histograms, expr)
		s.Floats = slices.Clone(s.Floats)
		out = append(out, s)
	}
	return out, warnings
}

// expectation of an expression: by how much it may differ from raw data. w is
// the number of scrapes in a window, 5 or 60.
type expectation struct {
	expr string
	// off is the bound for a window of w minutes, mixed where resolutions meet,
	// if that is another one.
	off, mixed func(w float64) float64
}

func exactly(float64) float64 { return 1e-6 }

func times(f float64) func(float64) float64 { return func(w float64) float64 { return f * w } }

// expectations are answers that windows have. Ranges are of at least two windows.
// Windows are dated at their ends, so that the data answered with is up to one
// window older than the range, and a window that is cut by a border of the range
// is in it or not.
func expectations() []expectation {
	return []expectation{
		// A number of samples does not depend on where the range begins, unless
		// windows are longer there than at its end, or one is in two parts since
		// a histogram restarts in it.
		{`count_over_time(gauge[6h])`, exactly, times(1)},
		{`count_over_time(hist[6h])`, times(1), nil},
		{`count_over_time(gauge[6h] offset 7m)`, exactly, times(1)},
		{`sum_over_time(const[6h]) / count_over_time(const[6h])`, exactly, nil},
		{`avg_over_time(const[6h])`, exactly, nil},
		{`sum_over_time(const[6h])`, exactly, times(0.1)},
		{`present_over_time(gauge[6h])`, exactly, nil},
		{`count_over_time(gauge[6h:1m])`, exactly, nil},
		{`sum_over_time(const[6h:1m])`, exactly, nil},
		{`count(gauge)`, exactly, nil},
		{`count by (of) ({__name__=~"gauge|const"})`, exactly, nil},
		{`group(gauge)`, exactly, nil},
		{`absent(gauge)`, exactly, nil},
		{`absent_over_time(gauge[6h])`, exactly, nil},
		{`count_values("v", const)`, exactly, nil},
		{`changes(const[6h])`, exactly, nil},
		// Whole periods of the saw are in 6h: what one window has more the other
		// has less, each sample by up to 119.
		{`sum_over_time(gauge[6h])`, times(119), nil},
		{`avg_over_time(gauge[6h])`, times(119.0 / 360), nil},
		// The extremes of windows are those of their samples.
		{`max_over_time(gauge[6h])`, exactly, nil},
		{`min_over_time(gauge[6h])`, exactly, nil},
		{`max_over_time(gauge[6h:5m])`, times(5), nil},
		// One window of growth, 10 a minute.
		{`increase(even_total[6h])`, times(0.2), nil},
		{`rate(even_total[6h]) * 3600`, times(0.04), nil},
		{`rate(even_total[2h]) * 3600`, times(0.2), nil},
		{`irate(even_total[6h]) * 60`, times(0.02), nil},
		{`rate(even_total[6h] @ 200000) * 3600`, times(0.04), nil},
		// Where resolutions meet, values are dated up to half of a finer window off.
		{`delta(even_total[6h])`, times(0.2), times(0.5)},
		{`deriv(even_total[6h]) * 3600`, exactly, times(0.02)},
		{`predict_linear(even_total[6h], 3600)`, times(10), nil},
		{`last_over_time(even_total[6h])`, times(20), nil},
		{`first_over_time(even_total[6h])`, times(20), nil},
		{`sum(even_total)`, times(20), nil},
		{`increase(reset_total[6h])`, times(20), nil},
		{`rate(even_total[6h:10m]) * 3600`, times(10), nil},
		// A restart loses at most the growth of the window that it is in.
		{`histogram_count(increase(hist[6h]))`, times(25), nil},
		{`histogram_sum(increase(hist[6h]))`, times(40), nil},
		{`histogram_count(rate(custom[6h])) * 3600`, times(6), nil},
		{`histogram_avg(rate(hist[6h]))`, exactly, nil},
		{`histogram_quantile(0.9, rate(hist[6h]))`, exactly, nil},
		{`histogram_count(sum_over_time(gauge_hist[6h]))`, times(700), nil},
		{`histogram_count(avg_over_time(gauge_hist[6h]))`, times(119.0 / 360), nil},
		{`histogram_count(gauge_hist)`, times(120), nil},
		{`topk(1, even_total)`, times(20), nil},
		{`bottomk(1, even_total)`, times(20), nil},
		{`quantile(0.5, even_total)`, times(20), nil},
		{`avg(even_total)`, times(20), nil},
		{`limitk(1, even_total)`, times(20), nil},
		{`limit_ratio(1, even_total)`, times(20), nil},
		{`stddev({__name__=~"even_total|const"})`, times(10), nil},
		{`sqrt(stdvar({__name__=~"even_total|const"}))`, times(10), nil},
		{`min(label_replace(sort_by_label(gauge), "x", "y", "", ""))`, times(120), nil},
		{`max(even_total)`, times(10), nil},
		{`min(even_total)`, times(20), nil},
		{`max(label_join(sort_by_label_desc(even_total), "x", "y", "of"))`, times(10), nil},
		{`max(sort(even_total))`, times(10), nil},
		{`max(sort_desc(even_total))`, times(10), nil},
		{`time() - timestamp(gauge)`, times(61), nil},
		{`time() - ts_of_last_over_time(gauge[6h])`, times(61), nil},
		{`time() - ts_of_first_over_time(gauge[6h])`, times(61), nil},
		// The largest value is the newest one, the smallest one the oldest.
		{`time() - ts_of_max_over_time(even_total[6h])`, times(61), nil},
		{`time() - ts_of_min_over_time(even_total[6h])`, times(61), nil},
		// The first and the last window are in the integral up to their middles.
		{`integral(const[6h])`, times(12), nil},
		{`histogram_stddev(rate(hist[6h]))`, exactly, nil},
		{`histogram_stdvar(rate(hist[6h]))`, exactly, nil},
		{`histogram_fraction(0, 1.5, rate(hist[6h]))`, exactly, nil},
		{`histogram_quantiles(rate(hist[6h]), "q", 0.5, 0.9)`, exactly, nil},
		{`info(even_total)`, times(20), nil},
	}
}

// Every function of the table that has a bound has an expectation; those of the
// values of an instant vector have those of their kind.
func TestExpectations_AreComplete(t *testing.T) {
	ofValues := map[string]bool{}
	for _, f := range aggr.Functions() {
		ofValues[f.Name] = f.Bound == aggr.OneWindow && f.Windows == 0 && parser.Functions[f.Name] != nil && !strings.HasPrefix(f.Name, "histogram_") && !f.Through
	}
	met := map[string]bool{}
	for _, x := range expectations() {
		e, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(x.expr)
		require.NoError(t, err, x.expr)
		parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
			switch n := n.(type) {
			case *parser.Call:
				met[n.Func.Name] = true
			case *parser.AggregateExpr:
				met[n.Op.String()] = true
			}
			return nil
		})
	}
	for _, f := range aggr.Functions() {
		_, isFunction := parser.Functions[f.Name]
		if f.Bound == aggr.Estimate || f.Bound == aggr.NoSamples || ofValues[f.Name] || !isFunction && f.Windows > 0 {
			continue
		}
		require.True(t, met[f.Name], "no expectation for %s", f.Name)
	}
}

// waysToAsk are all ways in which downsampled data comes into an answer.
func waysToAsk() map[string]asked {
	mixed := [testDays][3]bool{{false, false, true}, {false, false, true}, {false, true, true}, {true, true, true}}
	return map[string]asked{
		"5m allowed":         {everyDay(true, true, true), aggr.Resolution5m, false},
		"1h allowed":         {everyDay(true, true, true), aggr.Resolution1h, false},
		"5m is left":         {everyDay(false, true, true), 0, false},
		"1h is left":         {everyDay(false, false, true), 0, false},
		"1h, 5m, then raw":   {mixed, 0, false},
		"raw, where allowed": {mixed, aggr.Resolution5m, false},
		"1h, not told":       {everyDay(false, false, true), 0, true},
		"mixed, not told":    {mixed, aggr.Resolution5m, true},
	}
}

// Every function has over downsampled data, and over mixtures with raw data,
// the answer of raw data, within what the resolution can say.
func TestFunctions_OverDownsampledDataEqualRawData(t *testing.T) {
	t.Parallel()
	e, l := testEngine(t), world(t)
	raw := asked{kept: everyDay(true, true, true)}
	for name, way := range waysToAsk() {
		w := 60.0
		if name == "5m allowed" || name == "5m is left" {
			w = 5
		}
		for _, x := range expectations() {
			want, _ := ask(t, e, l, raw, x.expr)
			got, _ := ask(t, e, l, way, x.expr)
			what := fmt.Sprintf("%s, %s", x.expr, name)
			off := x.off
			if x.mixed != nil && way.kept != everyDay(true, true, true) && way.kept[0] != way.kept[testDays-1] {
				off = x.mixed
			}
			requireWithin(t, want, got, off(w)+1e-9, what)
		}
	}
}

func requireWithin(t *testing.T, want, got promql.Matrix, off float64, what string) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d series, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if len(got[i].Floats) != len(want[i].Floats) {
			t.Errorf("%s: %d points, want %d", what, len(got[i].Floats), len(want[i].Floats))
			return
		}
		worst, at := 0.0, 0
		for k, p := range want[i].Floats {
			if d := math.Abs(p.F - got[i].Floats[k].F); d > worst || math.IsNaN(d) {
				worst, at = d, k
			}
		}
		if !(worst <= off) {
			t.Errorf("%s: off by %g at %d, allowed %g: %g, want %g", what, worst, want[i].Floats[at].T, off, got[i].Floats[at].F, want[i].Floats[at].F)
		}
	}
}

// Functions that need every sample use raw data where it is left, and say so
// where it is not; so do ranges that are too short for what is left.
func TestEstimates_AreReported(t *testing.T) {
	e, l := testEngine(t), world(t)
	allowed := asked{everyDay(true, true, true), aggr.Resolution1h, false}
	gone := asked{everyDay(false, false, true), 0, false}
	for _, expr := range []string{
		`changes(gauge[6h])`, `resets(reset_total[6h])`, `quantile_over_time(0.9, gauge[6h])`, `stddev_over_time(gauge[6h])`,
		`stdvar_over_time(gauge[6h])`, `mad_over_time(gauge[6h])`, `count_values("v", gauge)`,
		`changes(hist[6h])`, `resets(hist[6h])`, `count_values("v", hist)`, `idelta(gauge[6h])`, `double_exponential_smoothing(gauge[6h], 0.5, 0.5)`,
	} {
		want, _ := ask(t, e, l, asked{kept: everyDay(true, true, true)}, expr)
		got, warnings := ask(t, e, l, allowed, expr)
		requireWithin(t, want, got, 1e-9, expr)
		require.Empty(t, warnings, expr)
		got, warnings = ask(t, e, l, gone, expr)
		require.NotEmpty(t, got, "%s has no answer", expr)
		require.Len(t, warnings, 1, expr)
		require.Contains(t, warnings[0], "needs every sample, but only data of a resolution of 1h is left")
	}
	for _, expr := range []string{`rate(even_total[5m])`, `max_over_time(gauge[30m])`, `avg_over_time(gauge[59m])`, `max_over_time(gauge[30m:1m])`} {
		got, warnings := ask(t, e, l, allowed, expr)
		require.Len(t, got, 1, expr)
		require.Len(t, got[0].Floats, 112, expr)
		require.Empty(t, warnings, "finer data is used: %s", expr)
		_, warnings = ask(t, e, l, gone, expr)
		require.NotEmpty(t, warnings, expr)
		require.Contains(t, warnings[0], "too short for data of a resolution of 1h")
	}
}

// Instant queries see what is left at any time, with the value of the last
// window, and a series that ended is gone after PromQL's lookback.
func TestInstantQueries_FindDownsampledData(t *testing.T) {
	e, l := testEngine(t), world(t)
	at := func(expr string, minute int64, res int) int {
		t.Helper()
		l.kept = everyDay(res == 0, res <= 1, true)
		q, err := e.NewInstantQuery(t.Context(), NewQueryable(l, QueryableConfig{}), nil, expr, time.UnixMilli(minute*minuteMs))
		require.NoError(t, err)
		defer q.Close()
		r := q.Exec(t.Context())
		require.NoError(t, r.Err)
		v, err := r.Vector()
		require.NoError(t, err)
		return len(v)
	}
	for res := range 3 {
		for minute := int64(24*60 - 70); minute < 24*60+130; minute++ {
			require.Equal(t, 1, at("const", minute, res), "resolution %d, minute %d", res, minute)
			if minute < 1499 {
				require.Equal(t, 1, at("short", minute, res), "resolution %d, minute %d", res, minute)
			}
			if minute > 1499+5 {
				require.Equal(t, 0, at("short", minute, res), "resolution %d, minute %d", res, minute)
			}
		}
	}
	// The client may choose the engine's lookback.
	l.kept = everyDay(false, false, true)
	opts := promql.NewPrometheusQueryOpts(false, time.Minute, nil)
	q, err := e.NewInstantQuery(t.Context(), NewQueryable(l, QueryableConfig{}), opts, "const", time.UnixMilli(90*minuteMs))
	require.NoError(t, err)
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	require.NoError(t, err)
	require.Empty(t, v)
}

// A query of raw data is evaluated once, and as it was written.
func TestRawData_IsReadOnce(t *testing.T) {
	m := &memory{series: []storeapi.Series{{Labels: labels.FromStrings("a", "b"), Chunks: []storeapi.Chunk{xor(t, point{1000, 1}, point{2000, 3})}}}}
	q, err := testEngine(t).NewInstantQuery(t.Context(), NewQueryable(m, QueryableConfig{}), nil, `avg_over_time({a="b"}[1m])`, time.UnixMilli(3000))
	require.NoError(t, err)
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	require.NoError(t, err)
	require.Equal(t, 2.0, v[0].F)
	require.Len(t, m.asked, 1)
	require.True(t, m.asked[0].FillCoarser)
	require.Zero(t, m.asked[0].MaxResolution)
}

// The answer names the resolutions that it is made of, each with its time, and an
// answer from raw data names none.
func TestAnswers_NameTheirResolutions(t *testing.T) {
	e, l := testEngine(t), world(t)
	infos := func(a asked, expr string) []string {
		l.kept, l.silent = a.kept, a.silent
		p := queryopts.Options{MaxSourceResolution: a.max}
		ctx := queryopts.NewContext(t.Context(), p)
		q, err := e.NewRangeQuery(ctx, NewQueryable(l, QueryableConfig{Defaults: p}), nil, expr, time.UnixMilli(askedFrom), time.UnixMilli(4*dayMs-minuteMs), askedStep)
		require.NoError(t, err)
		defer q.Close()
		res := q.Exec(ctx)
		require.NoError(t, res.Err)
		warnings, out := res.Warnings.AsStrings(expr, 0, 0)
		require.Empty(t, warnings)
		return out
	}
	ways := waysToAsk()
	require.Empty(t, infos(asked{kept: everyDay(true, true, true)}, "const"))
	require.Empty(t, infos(asked{kept: everyDay(true, false, false), max: aggr.Resolution5m}, "const"))
	require.Equal(t, []string{"PromQL info: resolutions of the data read: " +
		"1h from 1970-01-01T00:00:00Z to 1970-01-02T23:59:07Z, 5m from 1970-01-03T00:00:00Z to 1970-01-03T23:59:07Z, raw from 1970-01-04T00:00:07Z to 1970-01-04T23:59:07Z",
	}, infos(ways["1h, 5m, then raw"], "const"))
	require.Len(t, infos(ways["5m allowed"], "sum(const) + avg_over_time(gauge[6h])"), 1)
}
