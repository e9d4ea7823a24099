package storetest

import (
	"fmt"
	"math"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// base is a time that every TSDB accepts: two hours after a whole day.
const base = int64(1_700_006_400_000)

// matcherData has labels that are there, empty, multi-line and long.
func matcherData() Data {
	d := Data{External: labels.FromStrings("region", "eu")}
	for _, l := range []labels.Labels{
		labels.FromStrings("__name__", "up", "i", "a", "n", "1"),
		labels.FromStrings("__name__", "up", "i", "a", "n", "2"),
		labels.FromStrings("__name__", "up", "i", "b", "n", "1"),
		labels.FromStrings("__name__", "up", "i", "c"),
		labels.FromStrings("__name__", "down", "i", "a\nb"),
		labels.FromStrings("__name__", "down", "i", "A"),
		labels.FromStrings("__name__", "long", "i", string(make([]byte, 300))+"é"),
		labels.FromStrings("only", "this"),
	} {
		d.Series = append(d.Series, Series{Labels: l, Samples: Floats(base, 15_000, 20)})
	}
	return d
}

// testMatchers checks all types of matchers, also those that match the empty value
// and those on external labels.
func testMatchers(t *testing.T, newStore NewStore) {
	data := matcherData()
	s := newStore(t, data)
	for _, ms := range [][]*labels.Matcher{
		{eq("__name__", "up")},
		{eq("__name__", "up"), eq("i", "a")},
		{eq("__name__", "up"), ne("i", "a")},
		{eq("__name__", "none")},
		{eq("i", "")},
		{ne("i", "")},
		{eq("n", ""), eq("__name__", "up")},
		{ne("n", ""), ne("n", "1")},
		{eq("absent", "")},
		{ne("absent", "")},
		{re("i", "")},
		{nre("i", "")},
		{re("i", ".*")},
		{re("i", ".+")},
		{nre("i", ".*")},
		{nre("i", ".+")},
		{re("i", "a|b")},
		{re("i", "(a|b)")},
		{nre("i", "a|b"), eq("__name__", "up")},
		{re("i", "a|")},
		{re("i", "a.*")},
		{re("i", ".*b")},
		{re("i", "(?i)a")},
		{re("i", "(?s).*b")},
		{re("i", "^a$")},
		{re("n", "[0-9]")},
		{re("__name__", "u.|d..n"), nre("i", "[ab]")},
		{re("absent", ".*"), eq("i", "a")},
		{re("i", "a"), re("i", "b")},
		{eq("__name__", "up"), eq("region", "eu")},
		{eq("__name__", "up"), re("region", "e.|us")},
		{eq("__name__", "up"), ne("region", "us")},
		{eq("__name__", "up"), eq("region", "us")},
		{eq("__name__", "up"), eq("region", "")},
		{eq("__name__", "up"), nre("region", ".+")},
	} {
		t.Run(fmt.Sprint(ms), func(t *testing.T) { check(t, s, data, all(base, base+1_000_000, ms...)) })
	}
}

func testTimeBorders(t *testing.T, newStore NewStore) {
	data := Data{Series: []Series{
		{Labels: labels.FromStrings("__name__", "early"), Samples: Floats(base, 1000, 30)},
		{Labels: labels.FromStrings("__name__", "late"), Samples: Floats(base+100_000, 1000, 30)},
		{Labels: labels.FromStrings("__name__", "one"), Samples: Floats(base+50_000, 1000, 1)},
	}}
	s := newStore(t, data)
	for _, r := range [][2]int64{
		{base, base + 129_000},
		{base - 1, base - 1},
		{base, base},
		{base - 10, base},
		{base + 29_000, base + 29_000},
		{base + 29_001, base + 49_999},
		{base + 29_000, base + 100_000},
		{base + 50_000, base + 50_000},
		{base + 49_999, base + 50_001},
		{base + 129_000, base + 500_000},
		{base + 129_001, base + 500_000},
		{base + 10_500, base + 10_600},
		{math.MinInt64, math.MaxInt64},
	} {
		t.Run(fmt.Sprint(r[0]-base, " to ", r[1]-base), func(t *testing.T) { check(t, s, data, all(r[0], r[1])) })
	}
}

// testExternalLabels checks that external labels override labels of series, and that
// the answer stays sorted when replica labels are removed.
func testExternalLabels(t *testing.T, newStore NewStore) {
	data := Data{External: labels.FromStrings("a_replica", "1", "cluster", "eu", "zone", "z")}
	for _, l := range []labels.Labels{
		labels.FromStrings("__name__", "up", "cluster", "own"),
		labels.FromStrings("__name__", "up", "cluster", "own2", "x", "1"),
		labels.FromStrings("__name__", "up", "b", "1", "zone", "other"),
		labels.FromStrings("__name__", "up"),
	} {
		data.Series = append(data.Series, Series{Labels: l, Samples: Floats(base, 1000, 10)})
	}
	// One of them would become equal to another when its own cluster goes.
	data.Series[0].Labels = labels.FromStrings("__name__", "up", "cluster", "own", "y", "1")
	s := newStore(t, data)
	for _, ms := range [][]*labels.Matcher{
		{eq("__name__", "up")},
		{eq("__name__", "up"), eq("cluster", "eu")},
		{eq("__name__", "up"), eq("cluster", "own")},
		{eq("__name__", "up"), ne("cluster", "own"), eq("zone", "z")},
		{eq("__name__", "up"), eq("zone", "other")},
	} {
		for _, without := range [][]string{nil, {"a_replica"}, {"cluster"}, {"zone", "a_replica"}} {
			r := all(base, base+100_000, ms...)
			r.WithoutReplicaLabels = without
			t.Run(fmt.Sprint(ms, " without ", without), func(t *testing.T) { check(t, s, data, r) })
		}
	}
}

func testExternalLabelsAlone(t *testing.T, newStore NewStore) {
	data := matcherData()
	s := newStore(t, data)
	for _, ms := range [][]*labels.Matcher{{eq("region", "eu")}, {re("region", ".*"), ne("region", "us")}} {
		check(t, s, data, all(base, base+1000, ms...))
	}
	set := s.Select(t.Context(), all(base, base+1000, eq("region", "us")))
	require.False(t, set.Next())
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
}

func testNoMatchersLeft(t *testing.T, newStore NewStore) {
	s := newStore(t, matcherData())
	for _, ms := range [][]*labels.Matcher{{}, {eq("region", "eu")}, {re("region", ".*"), ne("region", "us")}} {
		set := s.Select(t.Context(), &storeapi.Request{MinTime: base, MaxTime: base + 1000, Matchers: ms, Partial: storeapi.PartialAbort})
		require.False(t, set.Next())
		require.Error(t, set.Err(), "%v", ms)
		require.NoError(t, set.Close())
	}
	// A contradiction comes first and is no error.
	set := s.Select(t.Context(), all(base, base+1000, eq("region", "us")))
	require.False(t, set.Next())
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
}

// testOrder takes labels that sort before, between and behind the ones that are
// added and removed. read checks the order.
func testOrder(t *testing.T, newStore NewStore) {
	rnd := rand.New(rand.NewSource(11))
	for _, ext := range []labels.Labels{
		labels.EmptyLabels(),
		labels.FromStrings("cluster", "eu"),
		labels.FromStrings("cluster", "eu", "replica", "x"),
		labels.FromStrings("A", "1", "m", "1", "zz", "1"),
	} {
		data := Data{External: ext, Series: randomSeries(rnd, 120)}
		s := newStore(t, data)
		for _, without := range [][]string{nil, {"replica"}, {"b"}, {"replica", "A"}, {"b", "m", "z"}, {"cluster"}} {
			r := all(base, base+100_000)
			r.WithoutReplicaLabels = without
			t.Run(fmt.Sprint(ext, " without ", without), func(t *testing.T) { check(t, s, data, r) })
		}
	}
}

// testSortWithout takes orders that leave out external labels, labels of the series
// themselves, and labels that are both.
func testSortWithout(t *testing.T, newStore NewStore) {
	rnd := rand.New(rand.NewSource(12))
	for _, ext := range []labels.Labels{
		labels.EmptyLabels(),
		labels.FromStrings("cluster", "eu", "replica", "x"),
		labels.FromStrings("A", "1", "prometheus_replica", "x", "zz", "1"),
		labels.FromStrings("cluster", "eu", "receive_replica", "r1"),
	} {
		data := Data{External: ext, Series: append(randomSeries(rnd, 100), replicatedSeries()...)}
		s := newStore(t, data)
		for _, c := range []struct{ sort, without []string }{
			{[]string{"prometheus_replica"}, nil},
			{[]string{"replica"}, nil},
			{[]string{"receive_replica", "replica"}, nil},
			{[]string{"b", "zz", "none"}, nil},
			{[]string{"cluster", "A"}, []string{"z"}},
			{[]string{"replica", "a"}, []string{"replica", "cluster"}},
		} {
			r := all(base, base+100_000)
			r.SortWithout, r.WithoutReplicaLabels = c.sort, c.without
			t.Run(fmt.Sprint(ext, " sort without ", c.sort, " remove ", c.without), func(t *testing.T) {
				check(t, s, data, r)
				r := *r
				r.SkipChunks = true
				check(t, s, data, &r)
				r.SkipChunks, r.Shard = false, &storeapi.Shard{Index: 1, Total: 2, Labels: c.sort}
				check(t, s, data, &r)
			})
		}
	}
}

// replicatedSeries have replica labels of their own, before and behind the labels in
// which the series differ; some end where others go on.
func replicatedSeries() []Series {
	var out []Series
	for _, name := range []string{"up", "requests"} {
		for _, replica := range []string{"1", "2", ""} {
			for _, l := range []labels.Labels{
				labels.FromStrings("__name__", name, "instance", "i1", "job", "j"),
				labels.FromStrings("__name__", name, "instance", "i1", "job", "j", "zone", "z"),
				labels.FromStrings("__name__", name, "instance", "i1", "job", "j", "path", "/"),
				labels.FromStrings("__name__", name, "instance", "i2", "job", "j"),
				labels.FromStrings("__name__", name, "instance", "i2"),
				labels.FromStrings("__name__", name, "rr", "1", "zone", "z"),
			} {
				l = labels.NewBuilder(l).Set("replica", replica).Labels()
				out = append(out, Series{Labels: l, Samples: Floats(base+int64(len(out)), 1000, 9)})
			}
		}
	}
	return out
}

// randomSeries always have the label __name__, as series of a TSDB.
func randomSeries(rnd *rand.Rand, n int) []Series {
	seen := map[string]bool{}
	var out []Series
	for range n {
		b := labels.NewBuilder(labels.FromStrings("__name__", fmt.Sprintf("m%d", rnd.Intn(2))))
		for _, name := range []string{"A", "_", "a", "b", "cc", "m", "replica", "replicas", "z"} {
			if rnd.Intn(3) == 0 {
				b.Set(name, fmt.Sprint(rnd.Intn(3)))
			}
		}
		if l := b.Labels(); !seen[l.String()] {
			seen[l.String()] = true
			out = append(out, Series{Labels: l, Samples: Floats(base+int64(len(out)), 1000, 9)})
		}
	}
	return out
}

func testLimit(t *testing.T, newStore NewStore) {
	data := Data{External: labels.FromStrings("cluster", "eu"), Series: randomSeries(rand.New(rand.NewSource(5)), 150)}
	s := newStore(t, data)
	everything := sets(t.Context(), t, s, all(base, base+100_000))
	for _, limit := range []int{1, 2, 10, 100, len(everything), len(everything) + 10} {
		r := all(base, base+100_000)
		r.Limit = limit
		some := slices.Compact(sets(t.Context(), t, s, r))
		require.Len(t, some, min(limit, len(everything)))
		for _, l := range some {
			require.True(t, slices.Contains(everything, l), l)
		}
	}
}

func testShards(t *testing.T, newStore NewStore) {
	data := Data{External: labels.FromStrings("cluster", "eu"), Series: randomSeries(rand.New(rand.NewSource(6)), 100)}
	s := newStore(t, data)
	for _, by := range []bool{true, false} {
		for _, names := range [][]string{nil, {"a"}, {"a", "b", "cluster"}} {
			for _, without := range [][]string{nil, {"replica"}} {
				for i := range int64(3) {
					r := all(base, base+100_000)
					r.WithoutReplicaLabels = without
					r.Shard = &storeapi.Shard{Index: i, Total: 3, By: by, Labels: names}
					t.Run(fmt.Sprint(i, by, names, without), func(t *testing.T) { check(t, s, data, r) })
				}
			}
		}
	}
}

func testSkipChunks(t *testing.T, newStore NewStore) {
	data := matcherData()
	s := newStore(t, data)
	r := all(base, base+100_000, eq("__name__", "up"))
	r.SkipChunks = true
	check(t, s, data, r)
	r = all(base-5000, base-1, eq("__name__", "up"))
	r.SkipChunks = true
	check(t, s, data, r)
}

func testSampleTypes(t *testing.T, newStore NewStore) {
	for _, xor2 := range []bool{false, true} {
		data := Data{XOR2: xor2, External: labels.FromStrings("cluster", "eu"), Series: []Series{
			{Labels: labels.FromStrings("__name__", "float"), Samples: Floats(base, 1000, 300)},
			{Labels: labels.FromStrings("__name__", "odd"), Samples: []Sample{{T: base, V: math.Inf(1)}, {T: base + 1, V: math.NaN()}, {T: base + 2, V: math.Copysign(0, -1)}}},
			{Labels: labels.FromStrings("__name__", "int"), Samples: histograms(tsdbutil.GenerateTestHistograms(40))},
			{Labels: labels.FromStrings("__name__", "custom"), Samples: histograms(tsdbutil.GenerateTestCustomBucketsHistograms(40))},
			{Labels: labels.FromStrings("__name__", "gauge"), Samples: histograms(tsdbutil.GenerateTestGaugeHistograms(40))},
			{Labels: labels.FromStrings("__name__", "floats"), Samples: floatHistograms(tsdbutil.GenerateTestFloatHistograms(40))},
			{Labels: labels.FromStrings("__name__", "custom_floats"), Samples: floatHistograms(tsdbutil.GenerateTestCustomBucketsFloatHistograms(40))},
			{Labels: labels.FromStrings("__name__", "mixed"), Samples: mixed()},
		}}
		s := newStore(t, data)
		check(t, s, data, all(base, base+1_000_000))
		check(t, s, data, all(base+5000, base+10_000))
	}
}

func histograms(hs []*histogram.Histogram) (out []Sample) {
	for i, h := range hs {
		out = append(out, Sample{T: base + int64(i)*1000, H: h})
	}
	return out
}

func floatHistograms(hs []*histogram.FloatHistogram) (out []Sample) {
	for i, h := range hs {
		out = append(out, Sample{T: base + int64(i)*1000, FH: h})
	}
	return out
}

// mixed changes its type twice, and its counters are reset in between.
func mixed() []Sample {
	out := Floats(base, 1000, 5)
	for i := range 5 {
		out = append(out, Sample{T: base + int64(5+i)*1000, H: tsdbutil.GenerateTestHistogram(int64(9 - i))})
	}
	return append(out, Floats(base+10_000, 1000, 5)...)
}
