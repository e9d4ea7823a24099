package xorcolumn_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// prometheusXOR encodes with the appender of Prometheus.
func prometheusXOR(t testing.TB, ts []int64, vs []float64) []byte {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i := range ts {
		app.Append(0, ts[i], vs[i])
	}
	return c.Bytes()
}

func oursXOR(ts []int64, vs []float64) []byte {
	var e xorcolumn.Encoder
	e.Reset([]byte("before"))
	for i := range ts {
		e.Append(ts[i], vs[i])
	}
	return e.Finish()[len("before"):]
}

// columnsXOR encodes columns, by pieces whose lengths are at most most, some of them empty.
func columnsXOR(ts []int64, vs []float64, most int) []byte {
	r := rand.New(rand.NewPCG(uint64(len(ts)), uint64(most)))
	var e xorcolumn.Encoder
	e.Reset([]byte("before"))
	for len(ts) > 0 {
		k := min(r.IntN(most+1), len(ts))
		if r.IntN(4) == 0 {
			e.Append(ts[0], vs[0])
			ts, vs = ts[1:], vs[1:]
			continue
		}
		e.AppendColumns(ts[:k], vs[:k])
		ts, vs = ts[k:], vs[k:]
	}
	return e.Finish()[len("before"):]
}

// randomSeries makes times and values that reach every branch of the format.
func randomSeries(r *rand.Rand, n int) ([]int64, []float64) {
	ts, vs := make([]int64, n), make([]float64, n)
	t := r.Int64N(1 << 42)
	step := []int64{15000, 1, 60000, 1 << 21, 1 << 40}[r.IntN(5)]
	jitter := []int64{1, 2, 9000, 70000, 600000, 1 << 33}[r.IntN(6)]
	v := 0.0
	kind := r.IntN(8)
	for i := range ts {
		t += step + r.Int64N(jitter)
		switch kind {
		case 0:
			v += float64(r.IntN(100))
		case 1:
			v = r.NormFloat64()
		case 2:
			v = math.Float64frombits(r.Uint64())
		case 3:
			if r.IntN(10) == 0 {
				v = math.Float64frombits(value.StaleNaN)
			} else {
				v = 1
			}
		case 4:
			v = float64(r.IntN(2))
		case 5:
			v = math.Float64frombits(math.Float64bits(v) ^ 1<<uint(r.IntN(64)))
		case 6:
			if r.IntN(2) == 0 {
				v = 1000 + 100*r.Float64() // all of the mantissa
			}
		case 7:
			if r.IntN(2) == 0 {
				v += float64(r.IntN(3)) / 4
			}
		}
		ts[i], vs[i] = t, v
	}
	return ts, vs
}

func TestXOR_EqualsPrometheus(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		ts, vs := randomSeries(r, r.IntN(200))
		want := prometheusXOR(t, ts, vs)
		require.Equal(t, want, oursXOR(ts, vs))
		require.Equal(t, want, columnsXOR(ts, vs, 1+r.IntN(200)))

		c := xorcolumn.Columns{T: []int64{7}, V: []float64{8}}
		require.NoError(t, c.AppendXOR(want))
		require.Equal(t, append([]int64{7}, ts...), c.T)
		require.Len(t, c.V, len(vs)+1)
		for i, v := range vs {
			require.Equal(t, math.Float64bits(v), math.Float64bits(c.V[i+1]))
		}
	}
}

// The first difference cannot be where the one before it is.
func TestAppendXOR_RefusesDifferenceWithoutWindow(t *testing.T) {
	b := append([]byte{0, 2, 0}, make([]byte, 8+1+8)...) // two samples: time 0, value 0, step 0
	b[len(b)-8] = 0b10 << 6
	var c xorcolumn.Columns
	require.ErrorIs(t, c.AppendXOR(b), xorcolumn.ErrCorrupt)
	require.Zero(t, c.Len())
}

// A chunk has at most 65535 samples, in one column or in several.
func TestAppendColumns_FillsChunk(t *testing.T) {
	ts, vs := make([]int64, math.MaxUint16), make([]float64, math.MaxUint16)
	for i := range ts {
		ts[i] = int64(i) * 15_000
	}
	require.Equal(t, prometheusXOR(t, ts, vs), columnsXOR(ts, vs, math.MaxUint16))
	ts, vs = append(ts, 1), append(vs, 1)
	require.Panics(t, func() { columnsXOR(ts, vs, 30_000) })
}

func TestXOR_EncodesExtremeTimes(t *testing.T) {
	for _, ts := range [][]int64{
		{math.MinInt64}, {math.MaxInt64}, {math.MinInt64, math.MaxInt64}, {-5, -3, 0, 1 << 60},
		{0, 0, 8192, 8192 + 8192 + 8192}, {0, 100000, 100000 + 100000 - 8191, 300000},
		{0, 0, 65536}, {0, 70000, 70000 + 70000 - 65535}, {0, 0, 524288}, {0, 0, 524289}, {0, 600000, 600000 + 600000 - 524287},
	} {
		vs := make([]float64, len(ts))
		for i := range vs {
			vs[i] = float64(i)
		}
		want := prometheusXOR(t, ts, vs)
		require.Equal(t, want, oursXOR(ts, vs))
		require.Equal(t, want, columnsXOR(ts, vs, 10))
		var c xorcolumn.Columns
		require.NoError(t, c.AppendXOR(want))
		require.Equal(t, ts, c.T)
		require.Equal(t, vs, c.V)
	}
}

func TestAppendXOR_RefusesEveryPrefix(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ts, vs := randomSeries(r, 50)
	b := prometheusXOR(t, ts, vs)
	for n := range len(b) {
		c := xorcolumn.Columns{T: []int64{1}, V: []float64{1}}
		require.Error(t, c.AppendXOR(b[:n:n]), "%d of %d bytes", n, len(b))
		require.Equal(t, 1, c.Len())
	}
}

// FuzzColumnsAppendXOR compares decoding, and encoding again, with Prometheus.
func FuzzColumnsAppendXOR(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		ts, vs := randomSeries(r, 30)
		f.Add(prometheusXOR(f, ts, vs))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c xorcolumn.Columns
		if c.AppendXOR(b) != nil {
			return
		}
		var x chunkenc.XORChunk
		x.Reset(b)
		it := x.Iterator(nil)
		for i := range c.T {
			require.Equal(t, chunkenc.ValFloat, it.Next())
			ts, v := it.At()
			require.Equal(t, ts, c.T[i])
			require.Equal(t, math.Float64bits(v), math.Float64bits(c.V[i]))
		}
		require.Equal(t, chunkenc.ValNone, it.Next())
		want := prometheusXOR(t, c.T, c.V)
		require.Equal(t, want, oursXOR(c.T, c.V))
		require.Equal(t, want, columnsXOR(c.T, c.V, len(c.T)))
	})
}

// benchSeries is a counter that is scraped every 15 s with jitter.
func benchSeries() ([]int64, []float64) { return shapedSeries(120, 5, "counter") }

// shapedSeries makes n samples every 15 s with a jitter below the given number of
// milliseconds, which is at least 1.
func shapedSeries(n int, jitter int64, shape string) ([]int64, []float64) {
	r := rand.New(rand.NewPCG(7, 8))
	ts, vs := make([]int64, n), make([]float64, n)
	t, v := int64(1_700_000_000_000), 1000.0
	for i := range ts {
		ts[i], vs[i] = t+int64(i)*15000+r.Int64N(jitter), v
		switch shape {
		case "counter":
			v += float64(r.IntN(50))
		case "seconds":
			v += float64(r.IntN(1500)) / 100
		case "gauge":
			v = 1e6 * r.Float64()
		}
	}
	return ts, vs
}

func BenchmarkXORDecode(b *testing.B) {
	for _, shape := range []string{"constant", "counter", "seconds", "gauge"} {
		for _, jitter := range []int64{1, 10, 5000} {
			// So many that the branch predictor cannot learn their bits.
			ts, vs := shapedSeries(120*100, jitter, shape)
			var chunks [][]byte
			for i := 0; i < len(ts); i += 120 {
				chunks = append(chunks, prometheusXOR(b, ts[i:i+120], vs[i:i+120]))
			}
			perSample := func(b *testing.B) {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ts)), "ns/sample")
			}
			name := fmt.Sprintf("%s/jitter=%d", shape, jitter)
			b.Run(name+"/columns", func(b *testing.B) {
				var c xorcolumn.Columns
				for b.Loop() {
					for _, chunk := range chunks {
						c.Reset()
						if err := c.AppendXOR(chunk); err != nil {
							b.Fatal(err)
						}
					}
				}
				perSample(b)
			})
			b.Run(name+"/iterator", func(b *testing.B) {
				var it chunkenc.Iterator
				var x chunkenc.XORChunk
				for b.Loop() {
					for _, chunk := range chunks {
						x.Reset(chunk)
						it = x.Iterator(it)
						for it.Next() != chunkenc.ValNone {
						}
					}
				}
				perSample(b)
			})
		}
	}
}

func BenchmarkXOREncode(b *testing.B) {
	ts, vs := benchSeries()
	b.Run("ours", func(b *testing.B) {
		var e xorcolumn.Encoder
		var buf []byte
		for b.Loop() {
			e.Reset(buf[:0])
			for i := range ts {
				e.Append(ts[i], vs[i])
			}
			buf = e.Finish()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ts)), "ns/sample")
	})
	b.Run("columns", func(b *testing.B) {
		var e xorcolumn.Encoder
		var buf []byte
		for b.Loop() {
			e.Reset(buf[:0])
			e.AppendColumns(ts, vs)
			buf = e.Finish()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ts)), "ns/sample")
	})
	b.Run("prometheus", func(b *testing.B) {
		for b.Loop() {
			prometheusXOR(b, ts, vs)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ts)), "ns/sample")
	})
}

func TestAppendXORUntil_DecodesPrefix(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	left := 0
	for range 2000 {
		ts, vs := randomSeries(r, 1+r.IntN(200))
		until := ts[r.IntN(len(ts))] + r.Int64N(3) - 1
		c := xorcolumn.Columns{T: []int64{7}, V: []float64{8}}
		whole, err := c.AppendXORUntil(prometheusXOR(t, ts, vs), until)
		require.NoError(t, err)
		n := c.Len() - 1
		left += len(ts) - n
		require.Equal(t, n == len(ts), whole)
		require.Equal(t, ts[:n], c.T[1:])
		for i, v := range vs[:n] {
			require.Equal(t, math.Float64bits(v), math.Float64bits(c.V[i+1]))
		}
		if !whole {
			require.Greater(t, ts[n-1], until)
		}
	}
	require.NotZero(t, left)
}
