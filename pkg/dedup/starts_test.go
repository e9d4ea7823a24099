package dedup

import (
	"math"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// integers returns the histograms of a list as those of integers.
type integers struct{ *listIter }

func (i integers) Next() chunkenc.ValueType        { return asInteger(i.listIter.Next()) }
func (i integers) Seek(t int64) chunkenc.ValueType { return asInteger(i.listIter.Seek(t)) }

func asInteger(typ chunkenc.ValueType) chunkenc.ValueType {
	if typ == chunkenc.ValFloatHistogram {
		return chunkenc.ValHistogram
	}
	return typ
}

func (i integers) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	t, f := i.AtFloatHistogram(nil)
	return t, &histogram.Histogram{
		Count: uint64(f.Count), Sum: f.Sum, Schema: f.Schema, PositiveSpans: f.PositiveSpans, CounterResetHint: f.CounterResetHint,
		PositiveBuckets: []int64{int64(f.PositiveBuckets[0]), int64(f.PositiveBuckets[1] - f.PositiveBuckets[0])},
	}
}

// kinds are the kinds of samples, made of counters whose values are multiples of four.
func kinds() map[string]func([]sample) chunkenc.Iterator {
	return map[string]func([]sample) chunkenc.Iterator{
		"floats":           func(s []sample) chunkenc.Iterator { return newListIter(s) },
		"float histograms": func(s []sample) chunkenc.Iterator { return newListIter(histograms(s)) },
		"integers":         func(s []sample) chunkenc.Iterator { return integers{newListIter(histograms(s))} },
		"custom buckets":   func(s []sample) chunkenc.Iterator { return newListIter(customBuckets(s, 1, 5)) },
	}
}

// drainAll is drain with all histograms as those of floats.
func drainAll(it chunkenc.Iterator) []sample {
	var out []sample
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		s := sample{}
		if typ == chunkenc.ValFloat {
			s.t, s.v = it.At()
		} else {
			s.t, s.h = it.AtFloatHistogram(nil)
			s.v = s.h.Count
		}
		out = append(out, s)
	}
	return out
}

// Samples of every kind, and the growth and the resets of counters on levels of their
// own, do not depend on where a query starts, also after an outage of all replicas and for
// a replica that takes over and was last seen before the query reads.
func TestCoverage_EveryKindSameForEveryStart(t *testing.T) {
	for kind, iterator := range kinds() {
		t.Run(kind, func(t *testing.T) {
			grown := 0
			for seed := range int64(60) {
				r := rand.New(rand.NewSource(seed))
				var resets []int64
				for at := r.Int63n(400 * step); at < 1200*step; at += 200*step + r.Int63n(400*step) {
					resets = append(resets, at)
				}
				common := randomGaps(r)
				replicas := make([][]sample, 2+r.Intn(2))
				for i := range replicas {
					replicas[i] = counted(r, r.Int63n(2)*r.Int63n(step), 1e6, resets, slices.Concat(common, randomGaps(r)))
					for k := range replicas[i] {
						replicas[i][k].v = 4 * math.Floor(replicas[i][k].v*(1+float64(i)/100))
					}
				}
				start := r.Int63n(1000 * step)
				from := func(start int64, mode Mode) []sample {
					b := Bounds{MinTime: start - Lead, MaxTime: 1200 * step}
					var reps []Replica
					for _, rep := range later(replicas, b.MinTime) {
						reps = append(reps, Replica{Samples: iterator(rep), Interval: 15000})
					}
					return slices.DeleteFunc(drainAll(FuncCoverage.Merge(reps, Options{Mode: mode, Bounds: b})), func(s sample) bool { return s.t < start })
				}
				for _, mode := range []Mode{Values, Counters} {
					whole := slices.DeleteFunc(from(0, mode), func(s sample) bool { return s.t < start })
					part := from(start, mode)
					require.Equal(t, len(whole), len(part), "seed %d", seed)
					for i := range part {
						require.Equal(t, whole[i].t, part[i].t, "seed %d", seed)
						require.Equal(t, whole[i].h == nil, part[i].h == nil)
						if mode == Values {
							require.True(t, sameSample(whole[i], part[i]), "seed %d at %d", seed, part[i].t)
						} else if i > 0 {
							grown++
							require.InDelta(t, growth(whole[i-1], whole[i]), growth(part[i-1], part[i]), 1e-2, "seed %d from %d at %d after %d", seed, start, part[i].t, part[i-1].t)
						}
					}
				}
			}
			require.Greater(t, grown, 10_000)
		})
	}
}

func sameSample(a, b sample) bool {
	return a.v == b.v && (a.h == nil || a.h.Equals(b.h))
}

// growth is how much a counter grows by a sample, as PromQL counts it.
func growth(a, b sample) float64 {
	if a.h != nil && b.h.DetectReset(a.h) || b.v < a.v {
		return b.v
	}
	return b.v - a.v
}
