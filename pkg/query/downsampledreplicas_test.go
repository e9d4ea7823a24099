package query

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// target is scraped by n replicas each minute, with jitter. Each replica has outages of
// its own, and all have one in common. The counters restart at the times of restarts, for
// all replicas; between them replica i counts 10+i each minute, on a level of its own. Its
// gauges stand on levels of their own.
type target struct {
	*levels
	n        int
	restarts []int64
}

func newTarget(t testing.TB, seed uint64, n int) target {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	out := target{levels: &levels{}, n: n}
	for at := 300*minuteMs + r.Int64N(600*minuteMs); at < testDays*dayMs; at += 300*minuteMs + r.Int64N(900*minuteMs) {
		out.restarts = append(out.restarts, at)
	}
	for i := range n {
		kinds := map[string][]sample{}
		down := int64(0)
		for k := range int64(testDays * 24 * 60) {
			if r.IntN(900) == 0 {
				down = k + 2 + r.Int64N(500)
			}
			if k < down || k >= 4000 && k < 4400 {
				continue
			}
			at := k*minuteMs + int64(i)*7000 + 2000 + r.Int64N(2000)
			level, since := 1e6*float64(i+1), int64(0)
			if p, _ := slices.BinarySearch(out.restarts, at); p > 0 {
				level, since = 0, out.restarts[p-1]
			}
			count := level + float64(10+i)*float64(at-since)/60_000
			gauge := exponentialOf(uint64(500 + 50*i))
			gauge.CounterResetHint = histogram.GaugeType
			kinds["c_total"] = append(kinds["c_total"], sample{t: at, v: count})
			kinds["h"] = append(kinds["h"], sample{t: at, h: exponentialOf(uint64(count))})
			kinds["g"] = append(kinds["g"], sample{t: at, v: 1 + float64(i)/10})
			kinds["gh"] = append(kinds["gh"], sample{t: at, h: gauge})
		}
		for name, samples := range kinds {
			out.add(t, labels.FromStrings("__name__", name, "replica", fmt.Sprint(i)), samples)
		}
	}
	return out
}

// of returns a store of replica i alone.
func (g target) of(i int, kept [testDays][3]bool) storeapi.Store {
	one := &levels{kept: kept}
	for k, lset := range g.series {
		if lset.Get("replica") == fmt.Sprint(i) {
			one.series, one.chunks = append(one.series, lset), append(one.chunks, g.chunks[k])
		}
	}
	return always{one}
}

// downsampledWay is one way in which the replicas of a target are kept. w is the longest
// window in minutes, and span the range of range selectors in minutes.
type downsampledWay struct {
	name    string
	kept    func(replica int) [testDays][3]bool
	max     int64
	w, span int64
	// uneven says that replicas have different resolutions of one time.
	uneven bool
}

func downsampledWays() []downsampledWay {
	same := func(kept [testDays][3]bool) func(int) [testDays][3]bool {
		return func(int) [testDays][3]bool { return kept }
	}
	mixed := waysToAsk()["1h, 5m, then raw"].kept
	return []downsampledWay{
		{"raw", same(everyDay(true, true, true)), 0, 1, 20, false},
		{"5m", same(everyDay(true, true, true)), aggr.Resolution5m, 5, 30, false},
		{"1h", same(everyDay(false, false, true)), 0, 60, 240, false},
		{"1h, 5m, then raw", same(mixed), 0, 60, 240, false},
		{"first replica 1h, others raw", func(i int) [testDays][3]bool { return everyDay(i > 0, i > 0, true) }, 0, 60, 240, true},
		{"first replica raw, others 1h", func(i int) [testDays][3]bool { return everyDay(i == 0, i == 0, true) }, 0, 60, 240, true},
		{"first replica 5m, others 1h", func(i int) [testDays][3]bool { return everyDay(false, i == 0, true) }, 0, 60, 240, true},
	}
}

// Over every mixture of resolutions, a merged answer exists wherever a replica has one,
// and lies within those of the replicas.
func TestReplicas_DownsampledAnswersLieWithinReplicas(t *testing.T) {
	t.Parallel()
	e := testEngine(t)
	for seed := range uint64(2) {
		for n := 2; n <= 3; n++ {
			g := newTarget(t, seed+10, n)
			for _, way := range downsampledWays() {
				var stores []storeapi.Store
				for i := range n {
					stores = append(stores, g.of(i, way.kept(i)))
				}
				all := fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
				top := float64(n - 1)
				p := queryopts.Options{MaxSourceResolution: way.max, Dedup: true}
				// few says that the range has not enough samples of a replica for two of the
				// coarsest windows: beside coarser replicas, finer ones are read as windows.
				counts := make([]map[int64]float64, n)
				for i := range n {
					counts[i] = over(t, e, stores[i], p, fmt.Sprintf("count_over_time(g[%dm])", way.span))[0]
				}
				few := func(i int, at int64) bool { return counts[i][at] < 2*60 }
				for expr, c := range map[string]struct {
					low, high float64
					counts    bool // whether a restart in the range loses growth
				}{
					"rate(c_total[W]) * 60":                       {10, 10 + top, true},
					"irate(c_total[W]) * 60":                      {10, 10 + top, true},
					"histogram_count(rate(h[W])) * 60":            {10, 10 + top, true},
					"histogram_sum(rate(h[W])) * 40":              {10, 10 + top, true},
					"increase(c_total[W]) / rate(c_total[W])":     {60 * float64(way.span), 60 * float64(way.span), false},
					"avg_over_time(g[W])":                         {1, 1 + top/10, false},
					"min_over_time(g[W])":                         {1, 1 + top/10, false},
					"max_over_time(g[W])":                         {1, 1 + top/10, false},
					"sum_over_time(g[W]) / count_over_time(g[W])": {1, 1 + top/10, false},
					"last_over_time(g[W])":                        {1, 1 + top/10, false},
					"g":                                           {1, 1 + top/10, false},
					"count_over_time(g[W])":                       {1, float64(way.span + 2*way.w), false},
					"count_over_time(gh[W])":                      {1, float64(way.span + 2*way.w), false},
					"histogram_count(avg_over_time(gh[W]))":       {500, 500 + 50*top, false},
					"histogram_count(gh)":                         {500, 500 + 50*top, false},
				} {
					expr = strings.ReplaceAll(expr, "W", fmt.Sprintf("%dm", way.span))
					what := fmt.Sprintf("%s, %s, seed %d, %d replicas", expr, way.name, seed, n)
					merged := over(t, e, all, p, expr)
					require.Len(t, merged, 1, what)
					low, high := map[int64]float64{}, map[int64]float64{}
					for i := range n {
						for _, one := range over(t, e, stores[i], p, expr) {
							for at, v := range one {
								if _, ok := merged[0][at]; !ok && !(way.uneven && few(i, at)) {
									t.Errorf("%s: no answer at %d, replica %d has %g", what, at, i, v)
								}
								if _, ok := low[at]; !ok {
									low[at], high[at] = v, v
								}
								low[at], high[at] = min(low[at], v), max(high[at], v)
							}
						}
					}
					require.Greater(t, len(merged[0]), 50, what)
					for at, v := range merged[0] {
						l, h := c.low, c.high
						if _, ok := low[at]; ok {
							l, h = min(l, low[at]), max(h, high[at])
						}
						if c.counts && way.w > 1 {
							// The growth within a window that an outage or a restart cuts is counted
							// whole or not.
							slack := float64(way.w) / float64(way.span)
							if strings.HasPrefix(expr, "irate") {
								slack = 1 // of one window
							}
							if way.uneven || g.restarted(at-(way.span+2*way.w)*minuteMs, at) {
								slack *= 2
							}
							l, h = l-slack*c.low, h+slack*c.high
						}
						if v < l*0.98 || v > h*1.02 {
							t.Errorf("%s at %d: %g is not within %g and %g", what, at, v, l, h)
						}
					}
				}
			}
		}
	}
}

// restarted says whether the counters restart between two times.
func (g target) restarted(from, to int64) bool {
	return slices.ContainsFunc(g.restarts, func(at int64) bool { return at > from && at <= to })
}

// An answer does not depend on where the query starts. The distance of the samples of a
// counter does: it is that of the coarsest data of the query.
func TestReplicas_DownsampledAnswersAreThoseOfEveryStart(t *testing.T) {
	t.Parallel()
	e := testEngine(t)
	g := newTarget(t, 20, 3)
	for _, way := range downsampledWays() {
		if way.uneven {
			continue
		}
		var stores []storeapi.Store
		for i := range g.n {
			stores = append(stores, g.of(i, way.kept(i)))
		}
		all := fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
		p := queryopts.Options{MaxSourceResolution: way.max, Dedup: true, ReplicaLabels: []string{"replica"}}
		ctx := queryopts.NewContext(t.Context(), p)
		for _, expr := range []string{"rate(c_total[W])", "avg_over_time(g[W])", "count_over_time(g[W])", "histogram_count(rate(h[W]))", "g"} {
			expr = strings.ReplaceAll(expr, "W", fmt.Sprintf("%dm", way.span))
			if strings.Contains(expr, "rate") && strings.Contains(way.name, "then") {
				continue
			}
			differ, steps := 0, 0
			for at, v := range over(t, e, all, p, expr)[0] {
				q, err := e.NewInstantQuery(ctx, NewQueryable(all, QueryableConfig{Defaults: p}), nil, expr, time.UnixMilli(at))
				require.NoError(t, err)
				got, err := q.Exec(ctx).Vector()
				require.NoError(t, err)
				steps++
				if len(got) != 1 || got[0].F > v*(1+1e-6) || got[0].F < v*(1-1e-6) {
					differ++
				}
				q.Close()
			}
			if differ > 0 {
				t.Errorf("%s, %s: %d of %d answers differ", expr, way.name, differ, steps)
			}
		}
	}
}
