package blockcheck

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// point is a sample of any type.
type point struct {
	t int64
	v float64
	i *histogram.Histogram
	f *histogram.FloatHistogram
}

func (p point) ST() int64                     { return 0 }
func (p point) T() int64                      { return p.t }
func (p point) F() float64                    { return p.v }
func (p point) H() *histogram.Histogram       { return p.i }
func (p point) FH() *histogram.FloatHistogram { return p.f }
func (p point) Copy() chunks.Sample           { return p }
func (p point) Type() chunkenc.ValueType {
	switch {
	case p.i != nil:
		return chunkenc.ValHistogram
	case p.f != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// observe adds observations to a histogram of floats.
func observe(r *rand.Rand, h *histogram.FloatHistogram) {
	n := float64(1 + r.IntN(5))
	if len(h.PositiveBuckets) == 0 {
		from := int32(0)
		if h.ZeroThreshold > 1 {
			from = 8
		}
		h.PositiveSpans = []histogram.Span{{Offset: from + 1 + r.Int32N(3), Length: 2}, {Offset: 2, Length: 3}}
		h.PositiveBuckets = make([]float64, 5)
		if h.UsesCustomBuckets() {
			h.PositiveSpans = []histogram.Span{{Length: uint32(len(h.CustomValues))}}
			h.PositiveBuckets = make([]float64, len(h.CustomValues))
		} else {
			h.NegativeSpans = []histogram.Span{{Offset: from - 2 + 3*min(from, 1), Length: 2}}
			h.NegativeBuckets = make([]float64, 2)
		}
	}
	h.PositiveBuckets[r.IntN(len(h.PositiveBuckets))] += n
	h.Count += n
	h.Sum += n * (r.Float64() - 0.2)
	if len(h.NegativeBuckets) > 0 {
		h.NegativeBuckets[r.IntN(len(h.NegativeBuckets))]++
		h.ZeroCount++
		h.Count += 2
	}
}

// fresh is an empty histogram of one of several layouts.
func fresh(r *rand.Rand, layout int) *histogram.FloatHistogram {
	switch layout {
	case 1:
		return &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, CustomValues: []float64{0.1, 1, 10}}
	case 2:
		return &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, CustomValues: []float64{0.5, 5}}
	}
	return &histogram.FloatHistogram{Schema: 3, ZeroThreshold: []float64{0, 0.001, 2}[r.IntN(3)]}
}

// anySeries is a series of stretches of floats, counters and gauges of histograms of all
// layouts, with resets, changes of the schema and of the zero bucket, stale markers, and
// holes.
func anySeries(t testing.TB, r *rand.Rand, ts int64) []chunks.Meta {
	var all []chunks.Sample
	for range 1 + r.IntN(5) {
		layout, gauge := r.IntN(3), r.IntN(3) == 0
		resets := []int{0, 2, 60, 400}[r.IntN(4)]
		v, h := 0.0, fresh(r, layout)
		floats := r.IntN(4) == 0
		for range 1 + r.IntN(700) {
			ts += 14_000 + r.Int64N(2000)
			x := r.IntN(1000)
			if floats {
				v += r.Float64()
				if x < resets {
					v = 0
				}
				all = append(all, point{t: ts, v: v})
				continue
			}
			switch {
			case x < resets:
				h = fresh(r, layout)
			case x < resets+3 && layout == 0 && h.Schema > 0:
				h, _ = h.CopyToSchema(h.Schema - 1)
			case x < resets+5:
				ts += r.Int64N(8_000_000)
			case x < resets+10:
				all = append(all, point{t: ts, f: &histogram.FloatHistogram{Schema: h.Schema, CustomValues: h.CustomValues, Sum: math.Float64frombits(value.StaleNaN)}})
				continue
			}
			observe(r, h)
			s := h.Copy()
			if gauge {
				s.CounterResetHint = histogram.GaugeType
			}
			all = append(all, point{t: ts, f: s})
		}
	}
	return encode(t, all)
}

// copyOf keeps chunks that are valid until the next call of the downsampler only.
func copyOf(metas []chunks.Meta) []Chunk {
	var out []Chunk
	for _, m := range metas {
		c := chunkOf(m)
		c.Data = append([]byte{}, c.Data...)
		out = append(out, c)
	}
	return out
}

func metasOf(t testing.TB, cs []Chunk) []chunks.Meta {
	var out []chunks.Meta
	for _, c := range cs {
		m := chunks.Meta{MinTime: c.MinTime, MaxTime: c.MaxTime}
		if c.Encoding == aggr.Encoding {
			m.Chunk = aggr.NewChunk(c.Data)
		} else {
			var err error
			m.Chunk, err = c.decoded()
			require.NoError(t, err)
		}
		out = append(out, m)
	}
	return out
}

func inputsOf(cs []Chunk) []Input {
	var in []Input
	for _, c := range cs {
		in = append(in, Input{Chunk: c})
	}
	return in
}

// changes are faults of one chunk of the result, each of which a check must find. They
// report whether they apply to it.
func changes(t testing.TB, r *rand.Rand, a *aggr.Aggregates) map[string]func() bool {
	hists := func(d *aggr.Data, change func(i int, h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram)) bool {
		head := aggr.CounterResetHeader(*d)
		c := chunkenc.NewFloatHistogramChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		it := aggr.DataIterator(*d)
		for i := 0; it.Next() != chunkenc.ValNone; i++ {
			ts, h := it.AtFloatHistogram(nil)
			h.CounterResetHint = histogram.GaugeType
			by, h := change(i, h)
			chk, _, next, err := app.AppendFloatHistogram(nil, 0, ts+by, h, false)
			require.NoError(t, err)
			if app = next; chk != nil {
				c = chk.(*chunkenc.FloatHistogramChunk)
			}
		}
		d.Bytes = c.Bytes()
		aggr.SetCounterResetHeader(*d, head)
		return true
	}
	n := aggr.NumSamples(a)
	at := r.IntN(n)
	atValue := func(f func(*histogram.FloatHistogram)) func(int, *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
		return func(i int, h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
			if i == at {
				f(h)
			}
			return 0, h
		}
	}
	grow := func(h *histogram.FloatHistogram) { h.Count++; h.ZeroCount++ }
	shift := func(h *histogram.FloatHistogram) {
		h.ZeroCount-- // of custom buckets, too: it is not encoded, so change another one
		if len(h.PositiveBuckets) > 0 {
			h.PositiveBuckets[0]++
		} else {
			h.NegativeBuckets[0]++
		}
	}
	total := func(h *histogram.FloatHistogram) { h.Sum += 1 }
	out := map[string]func() bool{
		"header": func() bool {
			head := aggr.CounterResetHeader(a.Counter)
			if head == chunkenc.UnknownCounterReset {
				return false // the next test makes it a raw one
			}
			to := map[chunkenc.CounterResetHeader]chunkenc.CounterResetHeader{
				chunkenc.GaugeType: chunkenc.NotCounterReset, chunkenc.CounterReset: chunkenc.NotCounterReset, chunkenc.NotCounterReset: chunkenc.CounterReset,
			}[head]
			aggr.SetCounterResetHeader(a.Counter, to)
			return true
		},
		"count": func() bool {
			var cols xorcolumn.Columns
			require.NoError(t, cols.AppendXOR(a.Count.Bytes))
			cols.V[at]++
			var e xorcolumn.Encoder
			e.Reset(nil)
			for i, ts := range cols.T {
				e.Append(ts, cols.V[i])
			}
			a.Count.Bytes = e.Finish()
			return true
		},
		"time of the last window": func() bool {
			return hists(&a.Sum, func(i int, h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
				if i == n-1 {
					return -1, h
				}
				return 0, h
			})
		},
	}
	for name, f := range map[string]func(*histogram.FloatHistogram){"grown": grow, "shifted": shift, "total": total} {
		out["sum "+name] = func() bool { return hists(&a.Sum, atValue(f)) }
		out["counter "+name] = func() bool { return hists(&a.Counter, atValue(f)) }
	}
	return out
}

// TestChanged_RecomputesEveryKind accepts what the downsampler makes of floats, counters
// and gauges of histograms with exponential and custom buckets: 5m data of raw data and 1h
// data of 5m data. It refuses each change of an aggregate, and a chunk less.
func TestChanged_RecomputesEveryKind(t *testing.T) {
	refused := map[string]int{}
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 2))
		source := copyOf(anySeries(t, r, r.Int64N(1<<40)))
		for _, step := range [][2]int64{{block.ResolutionRaw, block.Resolution5m}, {block.Resolution5m, block.Resolution1h}} {
			made, err := downsample.New(step[0], step[1]).Series(metasOf(t, source))
			require.NoError(t, err)
			out := copyOf(made)
			check := func(out []Chunk) error {
				return New(Config{Mode: Full, From: step[0], Resolution: step[1]}).Worker().Changed(1, inputsOf(source), out)
			}
			require.NoError(t, check(out), "seed %d, to %d", seed, step[1])
			require.ErrorIs(t, check(out[:len(out)-1]), ErrMismatch, "seed %d", seed)
			require.ErrorIs(t, check(out[1:]), ErrMismatch, "seed %d", seed)
			k := r.IntN(len(out))
			a, err := aggr.Decode(out[k].Data)
			require.NoError(t, err)
			if a.Sum.Encoding == chunkenc.EncXOR {
				for part := range 5 {
					changed := append([]Chunk{}, out...)
					changed[k].Data = changeAggregate(t, out[k].Data, part, func(c *xorcolumn.Columns) { c.V[r.IntN(c.Len())]++ })
					require.ErrorIs(t, check(changed), ErrMismatch, "seed %d, to %d, aggregate %d", seed, step[1], part)
				}
			} else {
				for name := range changes(t, r, &a) {
					a, err := aggr.Decode(append([]byte{}, out[k].Data...))
					require.NoError(t, err)
					if !changes(t, r, &a)[name]() {
						continue
					}
					changed := append([]Chunk{}, out...)
					changed[k].Data, err = aggr.Append(nil, &a)
					require.NoError(t, err)
					require.ErrorIs(t, check(changed), ErrMismatch, "seed %d, to %d, %s", seed, step[1], name)
					refused[name]++
				}
			}
			source = out
		}
	}
	for name, n := range refused {
		require.Greater(t, n, 2, name)
	}
	require.Len(t, refused, 9)
}

// TestChanged_RecomputesRawChunksOfFinerBlock has a raw chunk among 5m data, as blocks of
// other programs may.
func TestChanged_RecomputesRawChunksOfFinerBlock(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 3))
	raw := rawSeries(t, r, 3600_000)[:1]
	finer, err := downsample.New(block.ResolutionRaw, block.Resolution5m).Series(rawSeries(t, r, 40*3600_000))
	require.NoError(t, err)
	source := append(copyOf(raw), copyOf(finer)...)
	made, err := downsample.New(block.Resolution5m, block.Resolution1h).Series(metasOf(t, source))
	require.NoError(t, err)
	out := copyOf(made)
	cfg := Config{Mode: Full, From: block.Resolution5m, Resolution: block.Resolution1h}
	require.NoError(t, New(cfg).Worker().Changed(1, inputsOf(source), out))
	out[0].Data = changeAggregate(t, out[0].Data, 1, func(c *xorcolumn.Columns) { c.V[0]++ })
	require.ErrorIs(t, New(cfg).Worker().Changed(1, inputsOf(source), out), ErrMismatch)
}
