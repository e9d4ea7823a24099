package dedup

import (
	"fmt"
	"math"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

func lists(replicas [][]sample) []Replica {
	its := make([]Replica, len(replicas))
	for i, r := range replicas {
		its[i] = Replica{Samples: newListIter(r), Interval: 15000}
	}
	return its
}

func read(it chunkenc.Iterator, typ chunkenc.ValueType) sample {
	switch typ {
	case chunkenc.ValFloat:
		t, v := it.At()
		return sample{t: t, v: v}
	case chunkenc.ValFloatHistogram:
		t, h := it.AtFloatHistogram(nil)
		return sample{t: t, h: h}
	}
	return sample{t: -1}
}

func drain(it chunkenc.Iterator) []sample {
	var out []sample
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		out = append(out, read(it, typ))
	}
	return out
}

// randomReplicas makes replicas of one target: equal or shifted grids with
// jitter, gaps, restarts of counters and, sometimes, histograms.
func randomReplicas(r *rand.Rand) [][]sample {
	n, length := 1+r.Intn(4), 1+r.Intn(80)
	step := []int64{1, 1000, 15000, 15000, 30000, 60000}[r.Intn(6)]
	shifted, jitter, hist := r.Intn(2) == 0, r.Int63n(step/4+1), r.Intn(4) == 0
	out := make([][]sample, n)
	for i := range out {
		t, v, gap := int64(0), float64(r.Intn(100)), 0
		if shifted {
			t = r.Int63n(2*step + 1)
		}
		last := int64(-1)
		for range length {
			t += step
			v += float64(r.Intn(20))
			if r.Intn(15) == 0 {
				gap = 1 + r.Intn(8)
			}
			if r.Intn(25) == 0 {
				v = float64(r.Intn(10))
			}
			if gap > 0 {
				gap--
				continue
			}
			at := max(last+1, t+r.Int63n(2*jitter+1)-jitter)
			last = at
			s := sample{t: at, v: v}
			if hist && r.Intn(3) > 0 {
				s = sample{t: at, h: &histogram.FloatHistogram{Count: v}}
			}
			out[i] = append(out[i], s)
		}
	}
	return out
}

func TestCoverage_SeekEqualsNext(t *testing.T) {
	for seed := range int64(2000) {
		r := rand.New(rand.NewSource(seed))
		replicas := randomReplicas(r)
		for _, counter := range []bool{false, true} {
			all := drain(covered(lists(replicas), modeOf(counter)))
			it := covered(lists(replicas), modeOf(counter))
			i := -1
			for i < len(all) {
				var typ chunkenc.ValueType
				if i >= 0 && r.Intn(3) > 0 {
					typ, i = it.Next(), i+1
				} else {
					to := r.Int63n(100000)
					if i >= 0 {
						to += all[i].t - 1000
					}
					typ, i = it.Seek(to), max(i, 0)
					for i < len(all) && all[i].t < to {
						i++
					}
				}
				if i == len(all) {
					require.Equal(t, chunkenc.ValNone, typ)
					break
				}
				got := read(it, typ)
				require.Equal(t, all[i], got, "seed %d", seed)
			}
		}
	}
}

func TestCoverage_ReturnsSamplesOfReplicas(t *testing.T) {
	for seed := range int64(2000) {
		replicas := randomReplicas(rand.New(rand.NewSource(seed)))
		have := map[int64][]sample{}
		for _, rep := range replicas {
			for _, s := range rep {
				have[s.t] = append(have[s.t], s)
			}
		}
		last := int64(math.MinInt64)
		for _, s := range drain(covered(lists(replicas), Values)) {
			require.Greater(t, s.t, last)
			last = s.t
			require.True(t, slices.ContainsFunc(have[s.t], func(o sample) bool {
				return o.v == s.v && (o.h == nil) == (s.h == nil) && (o.h == nil || o.h.Equals(s.h))
			}), "seed %d", seed)
		}
	}
}

func TestCoverage_DoesNotReadOthersWithoutGap(t *testing.T) {
	grid := func(offset int64) *listIter {
		l := newListIter(nil)
		for i := range int64(1000) {
			l.s = append(l.s, sample{t: offset + i*15000, v: float64(i)})
		}
		return l
	}
	a, b, c := grid(0), grid(2000), grid(4000)
	it := FuncCoverage.Merge([]Replica{{Samples: a}, {Samples: b}, {Samples: c}}, Options{Bounds: Bounds{MaxTime: 999 * 15000}})
	require.Len(t, drain(it), 1000)
	require.Zero(t, b.reads)
	require.Zero(t, c.reads)
}

const step = int64(15000)

// outages makes a replica that is scraped every 15 s, with the given gaps in
// addition to lost scrapes.
func outages(r *rand.Rand, offset int64, loss float64, gaps [][2]int64) []sample {
	var out []sample
	for i := range int64(1200) {
		at := offset + i*step + r.Int63n(20)
		if r.Float64() < loss || slices.ContainsFunc(gaps, func(h [2]int64) bool { return h[0] <= at && at < h[1] }) {
			continue
		}
		out = append(out, sample{t: at, v: float64(at / 1000)})
	}
	return out
}

func randomGaps(r *rand.Rand) [][2]int64 {
	var out [][2]int64
	for at := r.Int63n(200 * step); at < 1200*step; {
		length := r.Int63n(150 * step)
		out = append(out, [2]int64{at, at + length})
		at += length + r.Int63n(200*step)
	}
	return out
}

// A gap of the merged series is a gap of all replicas, but for a few steps at its
// ends.
func TestCoverage_FillsEveryGap(t *testing.T) {
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		common := randomGaps(r)
		replicas := [][]sample{
			outages(r, 0, 0.02, slices.Concat(common, randomGaps(r))),
			outages(r, r.Int63n(step), 0.02, slices.Concat(common, randomGaps(r))),
		}
		merged := drain(covered(lists(replicas), Values))
		for i := 1; i < len(merged); i++ {
			from, to := merged[i-1].t+7*step/2, merged[i].t-3*step/2
			for n, rep := range replicas {
				require.False(t, slices.ContainsFunc(rep, func(s sample) bool { return s.t > from && s.t < to }),
					"seed %d: nothing between %d and %d, replica %d has samples", seed, merged[i-1].t, merged[i].t, n)
			}
		}
	}
}

// A query that starts later returns the same samples once the preferred replica has
// been without gaps for some time.
func TestCoverage_DoesNotDependOnTheStart(t *testing.T) {
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		common := randomGaps(r)
		replicas := [][]sample{
			outages(r, 0, 0.01, slices.Concat(common, randomGaps(r))),
			outages(r, r.Int63n(step), 0.01, slices.Concat(common, randomGaps(r))),
		}
		all := drain(covered(lists(replicas), Values))
		start := r.Int63n(1000 * step)
		late := make([][]sample, 2)
		for i, rep := range replicas {
			late[i] = slices.DeleteFunc(slices.Clone(rep), func(s sample) bool { return s.t < start })
		}
		settled, good := int64(math.MaxInt64), 0
		for i := 1; i < len(late[0]); i++ {
			if good++; late[0][i].t-late[0][i-1].t > 2*step+100 {
				good = 0
			}
			if good == 1 {
				settled = late[0][i].t
				break
			}
		}
		after := func(s sample) bool { return s.t < settled }
		require.Equal(t, slices.DeleteFunc(all, after), slices.DeleteFunc(drain(covered(lists(late), Values)), after), "seed %d from %d", seed, start)
	}
}

// Replicas have different scrape intervals, and the intervals change. The merged
// series follows one replica: it is not as dense as both together.
func TestCoverage_FollowsChangedIntervals(t *testing.T) {
	make := func(offset int64, steps ...int64) []sample {
		var out []sample
		at := offset
		for _, s := range steps {
			for range 200 {
				out = append(out, sample{t: at, v: 1})
				at += s
			}
		}
		return out
	}
	for _, steps := range [][2][]int64{
		{{15000, 60000, 15000}, {15000, 60000, 15000}},
		{{300000}, {300000}},
		{{300000}, {15000}},
		{{300000, 15000}, {300000, 15000}},
		{{15000, 300000, 3600000}, {15000, 300000, 3600000}},
	} {
		for _, offset := range []int64{0, 1, 7000, 14999} {
			a, b := make(0, steps[0]...), make(offset, steps[1]...)
			got := drain(covered([]Replica{{Samples: newListIter(a), Interval: steps[0][0]}, {Samples: newListIter(b), Interval: steps[1][0]}}, Values))
			require.InDelta(t, len(a), len(got), 16*float64(len(steps[0])-1), "%v offset %d", steps, offset)
			for i := 1; i < len(got); i++ {
				require.LessOrEqual(t, got[i].t-got[i-1].t, slices.Max(steps[0]))
			}
		}
	}
}

var staleNaN = math.Float64frombits(value.StaleNaN)

// A stale marker is kept when the series has ended for all replicas.
func TestCoverage_KeepsLastStaleMarker(t *testing.T) {
	replica := func(offset int64, from, until int, stale bool) []sample {
		var out []sample
		for i := from; i < until; i++ {
			out = append(out, sample{t: offset + int64(i)*step, v: float64(i)})
		}
		if stale {
			out = append(out, sample{t: offset + int64(until)*step, v: staleNaN})
		}
		return out
	}
	markers := func(samples []sample) (n int) {
		for _, s := range samples {
			if s.h != nil && value.IsStaleNaN(s.h.Sum) || s.h == nil && value.IsStaleNaN(s.v) {
				n++
			}
		}
		return n
	}
	hist := func(samples []sample) []sample {
		out := slices.Clone(samples)
		for i := range out {
			out[i].h = &histogram.FloatHistogram{Count: 1, Sum: out[i].v}
		}
		return out
	}
	for _, offset := range []int64{-7000, 0, 7000} {
		ends := replica(offset, 0, 20, true)
		for name, c := range map[string]struct {
			replicas [][]sample
			want     int
		}{
			"one ends":             {[][]sample{ends, replica(0, 0, 40, false)}, 0},
			"one ends and is back": {[][]sample{append(slices.Clone(ends), replica(offset, 25, 40, false)...), replica(0, 0, 40, false)}, 0},
			"both end":             {[][]sample{ends, replica(0, 0, 20, true)}, 1},
			"the other was away":   {[][]sample{ends, replica(0, 0, 5, false)}, 1},
			"one of three goes on": {[][]sample{ends, replica(0, 0, 20, true), replica(3000, 0, 40, false)}, 0},
		} {
			for i := range c.replicas {
				// In any order.
				c.replicas[0], c.replicas[i] = c.replicas[i], c.replicas[0]
				require.Equal(t, c.want, markers(drain(covered(lists(c.replicas), Values))), "%s %d %d", name, offset, i)
				var hs [][]sample
				for _, rep := range c.replicas {
					hs = append(hs, hist(rep))
				}
				require.Equal(t, c.want, markers(drain(covered(lists(hs), Values))), "%s %d %d: histograms", name, offset, i)
				if c.want == 0 {
					require.Zero(t, markers(drain(FuncCoverage.Merge(lists(c.replicas), Options{Bounds: everything()}))), "%s: chain", name)
				}
			}
		}
	}
}

func BenchmarkPenalty(b *testing.B) {
	for _, n := range []int{1, 2, 3} {
		b.Run(fmt.Sprintf("replicas=%d", n), func(b *testing.B) {
			its := make([]chunkenc.Chunk, n)
			for i := range its {
				its[i] = chunkenc.NewXORChunk()
				app, err := its[i].Appender()
				require.NoError(b, err)
				for j := range int64(120) {
					app.Append(0, int64(i)*1000+j*15000, float64(j)*1.7)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				in := make([]Replica, n)
				for i := range in {
					in[i].Samples = its[i].Iterator(nil)
				}
				it := covered(in, Values)
				for it.Next() != chunkenc.ValNone {
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
		})
	}
}
