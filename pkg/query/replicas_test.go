package query

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// replicated has a counter and a gauge of n replicas that are scraped every minute at
// times of their own. Each replica has outages of its own, and all have one in common.
// Replica i counts 10+i each minute, on a level of its own; its gauge is 1+i/10. shift is
// added to all.
func replicated(t testing.TB, r *rand.Rand, n int, shift float64) *levels {
	l := &levels{}
	for i := range n {
		var counter, gauge []sample
		offset, out := int64(i)*7000, int64(0)
		for k := range int64(testDays * 24 * 60) {
			if r.IntN(900) == 0 {
				out = k + 5 + r.Int64N(400)
			}
			if k < out || k >= 4000 && k < 4400 {
				continue
			}
			at := k*minuteMs + offset
			counter = append(counter, sample{t: at, v: shift + 1e6*float64(i) + float64(10+i)*float64(at)/60_000})
			gauge = append(gauge, sample{t: at, v: shift + 1 + float64(i)/10})
		}
		name := fmt.Sprint(i)
		l.add(t, labels.FromStrings("__name__", "c_total", "replica", name), counter)
		l.add(t, labels.FromStrings("__name__", "g", "replica", name), gauge)
	}
	return l
}

// over evaluates at every 37 minutes over a store, merged or not, and returns the values
// of each series by time.
func over(t testing.TB, e *engine, s storeapi.Store, p queryopts.Options, expr string) []map[int64]float64 {
	t.Helper()
	p.ReplicaLabels, p.PartialResponse = []string{"replica"}, false
	ctx := queryopts.NewContext(t.Context(), p)
	q, err := e.NewRangeQuery(ctx, NewQueryable(s, QueryableConfig{Defaults: p}), nil, expr, time.UnixMilli(askedFrom), time.UnixMilli(4*dayMs-minuteMs), askedStep)
	require.NoError(t, err, expr)
	defer q.Close()
	res := q.Exec(ctx)
	require.NoError(t, res.Err, expr)
	m, ok := res.Value.(promql.Matrix)
	require.True(t, ok)
	var out []map[int64]float64
	for _, s := range m {
		values := map[int64]float64{}
		for _, f := range s.Floats {
			values[f.T] = f.F
		}
		out = append(out, values)
	}
	return out
}

// A merged rate, increase or average lies within what the replicas have, there is one
// wherever a replica has one, and no reset or change is invented, over raw data and over
// downsampled data.
func TestReplicas_MergedLiesWithinReplicas(t *testing.T) {
	e := testEngine(t)
	for seed := range uint64(3) {
		for n := 2; n <= 3; n++ {
			l := replicated(t, rand.New(rand.NewPCG(seed, uint64(n))), n, 0)
			for res, window := range []string{"20m", "30m", "4h"} {
				var kept [3]bool
				kept[res] = true
				for i := range l.kept {
					l.kept[i] = kept
				}
				for expr, most := range map[string][2]float64{
					"rate(c_total[%s]) * 60":                       {10, float64(9 + n)},
					"increase(c_total[%s]) / rate(c_total[%[1]s])": {1200, 14400},
					"avg_over_time(g[%s])":                         {1, 1 + float64(n-1)/10},
					"resets(c_total[%s])":                          {0, 0},
				} {
					expr := fmt.Sprintf(expr, window)
					what := fmt.Sprintf("%s seed %d, %d replicas", expr, seed, n)
					alone := over(t, e, l, queryopts.Options{MaxSourceResolution: resolutions[res]}, expr)
					merged := over(t, e, l, queryopts.Options{MaxSourceResolution: resolutions[res], Dedup: true}, expr)
					require.Len(t, alone, n, what)
					require.Len(t, merged, 1, what)
					steps := 0
					for _, one := range alone {
						for at := range one {
							require.Contains(t, merged[0], at, what)
						}
					}
					for at, v := range merged[0] {
						steps++
						low, high := most[0], most[1]
						for _, one := range alone {
							if o, ok := one[at]; ok {
								low, high = min(low, o), max(high, o)
							}
						}
						require.GreaterOrEqual(t, v, low*0.99, "%s at %d", what, at)
						require.LessOrEqual(t, v, high*1.01, "%s at %d", what, at)
					}
					require.Greater(t, steps, 50, what)
				}
			}
		}
	}
}

// The order of stores has no part in an answer, also where two stores have different
// data of one replica.
func TestReplicas_SameAnswerForEveryOrderOfStores(t *testing.T) {
	e := testEngine(t)
	l := replicated(t, rand.New(rand.NewPCG(5, 5)), 3, 0)
	other := replicated(t, rand.New(rand.NewPCG(6, 6)), 2, 0.5)
	for res, window := range []string{"20m", "30m", "4h"} {
		var stores []storeapi.Store
		for _, from := range []*levels{l, other} {
			for i := range from.series {
				var kept [3]bool
				kept[res] = true
				stores = append(stores, always{&levels{series: from.series[i : i+1], chunks: from.chunks[i : i+1], kept: everyDay(kept[:]...)}})
			}
		}
		r := rand.New(rand.NewPCG(1, 1))
		want := map[string][]map[int64]float64{}
		for range 6 {
			r.Shuffle(len(stores), func(i, j int) { stores[i], stores[j] = stores[j], stores[i] })
			s := fanout.New(func() []storeapi.Store { return slices.Clone(stores) }, fanout.Config{})
			for _, expr := range []string{"rate(c_total[W])", "avg_over_time(g[W])", "c_total", "changes(g[W])"} {
				expr = strings.ReplaceAll(expr, "W", window)
				got := over(t, e, s, queryopts.Options{MaxSourceResolution: resolutions[res], Dedup: true}, expr)
				if want[expr] == nil {
					want[expr] = got
				}
				require.Len(t, got, 1, expr)
				require.Equal(t, want[expr], got, expr)
			}
		}
	}
}

// always is a store with data of all time.
type always struct{ *levels }

func (always) Info() storeapi.Info { return storeapi.Info{MaxTime: math.MaxInt64} }

// Downsampled chunks of one time from two stores are in one order.
func TestInOrder_ComparesAggregates(t *testing.T) {
	chunk := func(b byte) storeapi.Chunk {
		return storeapi.Chunk{MinTime: 1, MaxTime: 2, Aggr: &storeapi.Aggregates{Sum: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: []byte{b}}}}
	}
	a := inOrder([]storeapi.Chunk{chunk(1), chunk(2), chunk(1)})
	require.Len(t, a, 2)
	require.Equal(t, a, inOrder([]storeapi.Chunk{chunk(2), chunk(1)}))
}
