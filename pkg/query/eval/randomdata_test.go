package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

// dataSpan is how long the series of a random data set last, in milliseconds.
const dataSpan = 40 * 60 * 1000

// dataset is a storage of Prometheus over series in memory.
type dataset struct{ series []*listSeries }

func (d *dataset) Querier(mint, maxt int64) (storage.Querier, error) {
	return &dataQuerier{d: d, mint: mint, maxt: maxt}, nil
}

type dataQuerier struct {
	storage.LabelQuerier
	d          *dataset
	mint, maxt int64
}

func (q *dataQuerier) Close() error { return nil }

func (q *dataQuerier) Select(_ context.Context, _ bool, _ *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := &dataSet{at: -1}
	for _, s := range q.d.series {
		matches := true
		for _, m := range ms {
			matches = matches && m.Matches(s.labels.Get(m.Name))
		}
		if matches {
			set.series = append(set.series, storage.NewListSeries(s.labels, s.points(q.mint, q.maxt)))
		}
	}
	return set
}

type dataSet struct {
	series []storage.Series
	at     int
}

func (s *dataSet) Next() bool                        { s.at++; return s.at < len(s.series) }
func (s *dataSet) At() storage.Series                { return s.series[s.at] }
func (s *dataSet) Err() error                        { return nil }
func (s *dataSet) Warnings() annotations.Annotations { return nil }

// points returns the samples with times in [mint, maxt].
func (s *listSeries) points(mint, maxt int64) []chunks.Sample {
	var list []chunks.Sample
	for i, t := range s.samples.T {
		if t < mint || t > maxt {
			continue
		}
		p := point{t: t, f: s.samples.V[i]}
		if s.samples.H != nil {
			p.h = s.samples.H[i]
		}
		list = append(list, p)
	}
	return list
}

// point is a sample that Prometheus's engine may not change.
type point struct {
	t int64
	f float64
	h *histogram.FloatHistogram
}

func (p point) ST() int64               { return 0 }
func (p point) T() int64                { return p.t }
func (p point) F() float64              { return p.f }
func (p point) H() *histogram.Histogram { return nil }
func (p point) Copy() chunks.Sample     { return p }

func (p point) FH() *histogram.FloatHistogram {
	if p.h == nil {
		return nil
	}
	return p.h.Copy()
}

func (p point) Type() chunkenc.ValueType {
	if p.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// randomDataset writes random series to a TSDB, which decides on the hints about
// counter resets, and reads them again.
func randomDataset(t testing.TB, r *rand.Rand) *dataset {
	db := teststorage.New(t)
	app := db.AppenderV2(t.Context())
	for _, s := range randomSeries(r) {
		for _, p := range s.points {
			var fh *histogram.FloatHistogram
			if p.h != nil {
				fh = p.h.Copy()
			}
			var h *histogram.Histogram
			if p.ints != nil {
				h, fh = p.ints.Copy(), nil
			}
			_, err := app.Append(0, s.labels, 0, p.t, p.f, h, fh, storage.AppendV2Options{})
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	d := &dataset{}
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+"))
	for set.Next() {
		s := &listSeries{labels: set.At().Labels()}
		it := set.At().Iterator(nil)
		readSamples(it, math.MinInt64, math.MaxInt64, &s.samples)
		require.NoError(t, it.Err())
		d.series = append(d.series, s)
	}
	require.NoError(t, set.Err())
	return d
}

type randomPoint struct {
	point
	ints *histogram.Histogram
}

type randomOne struct {
	labels labels.Labels
	points []randomPoint
}

// randomSeries makes series of each kind. They share values of their labels, so
// that many match each other.
func randomSeries(r *rand.Rand) []randomOne {
	var all []randomOne
	add := func(kind string, ls ...string) {
		all = append(all, randomOne{labels: labels.FromStrings(ls...), points: randomPoints(r, kind)})
	}
	for job := range 2 {
		j := "j" + strconv.Itoa(job)
		for inst := range 1 + r.IntN(3) {
			in := "i" + strconv.Itoa(inst)
			add("counter", "__name__", "c_total", "job", j, "inst", in)
			add("gauge", "__name__", "g", "job", j, "inst", in)
			if r.IntN(2) == 0 {
				add("counter", "__name__", "c_total", "job", j, "inst", in, "mode", "x")
			}
			if r.IntN(2) == 0 {
				add("special", "__name__", "g", "job", j, "inst", in, "mode", "x")
			}
			add("one", "__name__", "info", "job", j, "inst", in, "version", "v"+strconv.Itoa(r.IntN(3)))
			if r.IntN(3) == 0 {
				add("one", "__name__", "info", "job", j, "inst", in, "version", "v9")
			}
			add([]string{"native", "nativefloat", "custom", "nativegauge", "mixed"}[r.IntN(5)], "__name__", "nh", "job", j, "inst", in)
		}
		kind := []string{"native", "custom", "mixed"}[r.IntN(3)]
		add(kind, "__name__", "nh", "job", j)
		for n, le := range []string{"0.5", "1", "2.5", "10", "+Inf"} {
			add("bucket"+strconv.Itoa(n), "__name__", "h_bucket", "job", j, "le", le)
		}
		if r.IntN(4) == 0 {
			add("native", "__name__", "h_bucket", "job", j)
			add("counter", "__name__", "h_bucket", "job", j, "le", "bad")
		}
	}
	return all
}

// randomPoints makes the samples of a series: it begins and ends somewhere, has
// gaps, an interval of its own, jitter, and sometimes ends with a stale marker.
func randomPoints(r *rand.Rand, kind string) []randomPoint {
	var (
		interval = []int64{10_000, 15_000, 30_000, 60_000}[r.IntN(4)]
		from, to = int64(0), int64(dataSpan)
		jitter   = int64(1)
		list     []randomPoint
		counter  = float64(r.IntN(1000))
		h        = randomHistogram(r, kind)
		specials = []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1), math.MaxFloat64, 5e-324, -1, 1}
	)
	if r.IntN(3) == 0 {
		from, to = r.Int64N(dataSpan), r.Int64N(dataSpan)
		if from > to {
			from, to = to, from
		}
	}
	if r.IntN(2) == 0 {
		jitter = 2000
	}
	for t := from; t <= to; t += interval {
		if r.IntN(40) == 0 {
			gap := r.Int64N(15 * 60_000)
			if jitter == 1 {
				gap -= gap % interval // such samples stay at the borders of windows
			}
			t += gap
		}
		p := randomPoint{point: point{t: t + r.Int64N(jitter)}}
		k := kind
		if kind == "mixed" {
			k = []string{"gauge", "native"}[(t/300_000)%2]
		}
		switch {
		case r.IntN(60) == 0 && p.t > 0:
			p.f = math.Float64frombits(value.StaleNaN)
		case k == "counter" || strings.HasPrefix(k, "bucket"):
			if counter += float64(r.IntN(50)) / 4; r.IntN(50) == 0 {
				counter = float64(r.IntN(3)) // a reset
			}
			p.f = counter
		case k == "gauge":
			p.f = math.Round(r.NormFloat64()*1000) / 100
		case k == "one":
			p.f = 1
		case k == "special":
			if p.f = specials[r.IntN(len(specials))]; r.IntN(2) == 0 {
				p.f = r.NormFloat64() * 1e3
			}
		default:
			if h = h.grow(r); r.IntN(50) == 0 {
				h = randomHistogram(r, kind)
			}
			p.h, p.ints = h.float(), h.ints
			if p.ints != nil {
				p.h = nil
				p.ints = p.ints.Copy()
			}
		}
		list = append(list, p)
	}
	return list
}

// growing is a native histogram of integers, or of floats where scale is not 0.
type growing struct {
	ints  *histogram.Histogram
	base  *histogram.Histogram
	scale float64
}

func randomHistogram(r *rand.Rand, kind string) growing {
	h := &histogram.Histogram{
		Schema: int32(r.IntN(3)), ZeroThreshold: 0.001, ZeroCount: uint64(r.IntN(3)),
		PositiveSpans:   []histogram.Span{{Offset: int32(r.IntN(3)), Length: 2}, {Offset: 1, Length: 1}},
		PositiveBuckets: []int64{int64(r.IntN(5)), 1, 2},
	}
	switch kind {
	case "custom":
		h.Schema, h.ZeroThreshold, h.ZeroCount = histogram.CustomBucketsSchema, 0, 0
		h.CustomValues = []float64{1, 5, 10, 20}
		if r.IntN(3) == 0 {
			h.CustomValues = []float64{1, 5, 10, 50}
		}
		h.PositiveSpans = []histogram.Span{{Offset: 0, Length: 3}}
	case "nativegauge":
		h.CounterResetHint = histogram.GaugeType
	}
	if kind != "custom" && r.IntN(2) == 0 {
		h.NegativeSpans = []histogram.Span{{Offset: 0, Length: 2}}
		h.NegativeBuckets = []int64{1, 1}
	}
	g := growing{base: h, ints: h}
	if kind == "nativefloat" {
		g.scale, g.ints = 1.5, nil
	}
	g.total()
	return g
}

// total sets count and sum from the buckets.
func (g growing) total() {
	h := g.base
	h.Count = h.ZeroCount
	for _, buckets := range [][]int64{h.PositiveBuckets, h.NegativeBuckets} {
		var n int64
		for _, d := range buckets {
			n += d
			h.Count += uint64(n)
		}
	}
	h.Sum = float64(h.Count) * 2.25
}

// grow returns a histogram with more observations.
func (g growing) grow(r *rand.Rand) growing {
	h := g.base.Copy()
	h.PositiveBuckets[0] += int64(r.IntN(3))
	h.PositiveBuckets[2] += int64(r.IntN(2))
	g.base = h
	if g.ints != nil {
		g.ints = h
	}
	g.total()
	return g
}

func (g growing) float() *histogram.FloatHistogram {
	if g.base == nil {
		return nil
	}
	h := g.base.ToFloat(nil)
	if g.scale != 0 {
		h = h.Mul(g.scale)
	}
	return h
}

// loadText returns the data as commands of promqltest.
func (d *dataset) loadText() string {
	var b strings.Builder
	b.WriteString("load 1ms\n")
	for _, s := range d.series {
		b.WriteString("  " + s.labels.String())
		next := int64(0)
		for i, t := range s.samples.T {
			if t > next {
				fmt.Fprintf(&b, " _x%d", t-next-1)
			}
			next = t + 1
			switch {
			case s.samples.H != nil && s.samples.H[i] != nil:
				b.WriteString(" " + promqltest.HistogramTestExpression(s.samples.H[i]))
			case value.IsStaleNaN(s.samples.V[i]):
				b.WriteString(" stale")
			default:
				b.WriteString(" " + strconv.FormatFloat(s.samples.V[i], 'g', -1, 64))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// without returns the data without the samples at the indexes [from, to) of a series.
func (d *dataset) without(series, from, to int) *dataset {
	s := d.series[series]
	cut := &listSeries{labels: s.labels}
	cut.samples.T = slices.Delete(slices.Clone(s.samples.T), from, to)
	cut.samples.V = slices.Delete(slices.Clone(s.samples.V), from, to)
	if s.samples.H != nil {
		cut.samples.H = slices.Delete(slices.Clone(s.samples.H), from, to)
	}
	all := slices.Clone(d.series)
	if all[series] = cut; len(cut.samples.T) == 0 {
		all = slices.Delete(all, series, series+1)
	}
	return &dataset{series: all}
}
