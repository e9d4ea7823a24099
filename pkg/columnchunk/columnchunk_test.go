package columnchunk

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// columns are samples of one of the kinds that metrics have.
func columns(rng *rand.Rand, n int) *xorcolumn.Columns {
	c := &xorcolumn.Columns{}
	jitter, step := rng.Int64N(40)+1, rng.Int64N(60_000)+1
	t, unit := rng.Int64N(1<<42), []float64{1, 10, 100, 1000, 1e6}[rng.IntN(5)]
	counter, special := rng.IntN(2) == 0, rng.IntN(3) == 0
	level := float64(rng.Int64N(1 << rng.IntN(50)))
	if rng.IntN(4) == 0 {
		level = -level
	}
	size := float64(rng.Int64N(1<<rng.IntN(30)) + 1)
	for range n {
		if t += step + rng.Int64N(jitter); rng.IntN(100) == 0 {
			t += 20 * step
		}
		if counter {
			level += math.Floor(rng.Float64() * size)
		} else {
			level = math.Floor((rng.Float64() - 0.3) * size)
		}
		v := level / unit
		if special && rng.IntN(20) == 0 {
			v = []float64{math.Float64frombits(value.StaleNaN), math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e300, 1.0 / 3, 0}[rng.IntN(8)]
		}
		c.T, c.V = append(c.T, t), append(c.V, v)
	}
	return c
}

// requireSame compares bits.
func requireSame(t *testing.T, want, got *xorcolumn.Columns) {
	t.Helper()
	require.Equal(t, want.T, got.T)
	require.Len(t, got.V, len(want.V))
	for i := range want.V {
		require.Equal(t, math.Float64bits(want.V[i]), math.Float64bits(got.V[i]), "value %d", i)
	}
}

func TestEncoder_KeepsEverySample(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var e Encoder
	encoded := 0
	for range 20_000 {
		c := columns(rng, 1+rng.IntN(240))
		b, ok := e.encode([]byte("before"), c, math.MaxInt32)
		if !ok {
			require.Equal(t, "before", string(b))
			continue
		}
		encoded++
		b = b[len("before"):]
		got := xorcolumn.Columns{T: []int64{7}, V: []float64{8}}
		whole, err := AppendUntil(&got, b, math.MaxInt64)
		require.NoError(t, err)
		require.True(t, whole)
		require.Equal(t, []int64{7}, got.T[:1])
		requireSame(t, c, &xorcolumn.Columns{T: got.T[1:], V: got.V[1:]})

		until := c.T[rng.IntN(len(c.T))] - rng.Int64N(2)
		got.Reset()
		whole, err = AppendUntil(&got, b, until)
		require.NoError(t, err)
		require.Equal(t, whole, got.Len() == c.Len())
		requireSame(t, &xorcolumn.Columns{T: c.T[:got.Len()], V: c.V[:got.Len()]}, &got)
		require.True(t, whole || got.T[got.Len()-1] > until)
	}
	require.Equal(t, encoded, 20_000)
}

func TestEncoder_ChoosesForms(t *testing.T) {
	steady := func(n int, v func(i int) float64) *xorcolumn.Columns {
		c := &xorcolumn.Columns{}
		for i := range n {
			c.T, c.V = append(c.T, int64(i)*15_000), append(c.V, v(i))
		}
		return c
	}
	gap := steady(120, func(i int) float64 { return float64(i * 3) })
	for i := 60; i < 120; i++ {
		gap.T[i] += 300_000
	}
	stale := steady(120, func(i int) float64 { return float64(i*3) / 100 })
	stale.V[50], stale.V[0] = math.Float64frombits(value.StaleNaN), math.Copysign(0, -1)
	for _, tc := range []struct {
		name string
		c    *xorcolumn.Columns
		most int // 0: not encoded
	}{
		{"one sample", steady(1, func(int) float64 { return 17 }), 40},
		{"constant", steady(120, func(int) float64 { return 0.25 }), 40},
		{"steady counter", gap, 50},
		{"hundredths", steady(120, func(i int) float64 { return float64(i*i) / 100 }), 174},
		{"stale marker and negative zero", stale, 194},
		{"thirds", steady(120, func(i int) float64 { return float64(i) / 3.1 }), 40 + 8*122},
		{"counter of nanoseconds", steady(120, func(i int) float64 { return 1.7e18 + float64(i)*1024 }), 40},
		{"nanoseconds", steady(120, func(i int) float64 { return float64(i*i*1000+1) / 1e9 }), 40 + 4*122},
		{"large", steady(120, func(int) float64 { return 1e19 }), 40 + 8*122},
		{"late", &xorcolumn.Columns{T: []int64{1, 1 << 62}, V: []float64{1, 2}}, 0},
		{"too many samples", steady(maxSamples+1, func(int) float64 { return 1 }), 0},
		{"none", steady(0, nil), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var e Encoder
			b, ok := e.encode(nil, tc.c, 1<<20)
			require.Equal(t, tc.most > 0, ok)
			require.LessOrEqual(t, len(b), tc.most)
			if ok {
				_, ok = e.encode(nil, tc.c, len(b)-1)
				require.False(t, ok, "more bytes than allowed")
			}
		})
	}
}

func TestEncoder_AppendChunk(t *testing.T) {
	var e Encoder
	chunkOf := func(c chunkenc.Chunk, st int64) chunkenc.Chunk {
		app, err := c.Appender()
		require.NoError(t, err)
		for i := range int64(50) {
			app.Append(st*i, 1000*i+i%3, float64(i*i)/10)
		}
		return c
	}
	for _, tc := range []struct {
		name string
		c    chunkenc.Chunk
		ok   bool
	}{
		{"XOR", chunkOf(chunkenc.NewXORChunk(), 0), true},
		{"XOR2", chunkOf(chunkenc.NewXOR2Chunk(), 0), true},
		{"XOR2 with start timestamps", chunkOf(chunkenc.NewXOR2Chunk(), 10), false},
		{"empty", chunkenc.NewXORChunk(), false},
		{"histograms", chunkenc.NewHistogramChunk(), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, ok := e.AppendChunk([]byte("x"), tc.c.Encoding(), tc.c.Bytes())
			require.Equal(t, tc.ok, ok)
			if !ok {
				require.Equal(t, "x", string(b))
				return
			}
			require.EqualValues(t, len(tc.c.Bytes()), SourceSize(b[1:]))
			want, got := tc.c.Iterator(nil), NewIterator(b[1:])
			for want.Next() != chunkenc.ValNone {
				require.Equal(t, chunkenc.ValFloat, got.Next())
				wantT, wantV := want.At()
				gotT, gotV := got.At()
				require.Equal(t, wantT, gotT)
				require.Equal(t, wantV, gotV)
				require.Equal(t, wantT, got.AtT())
				require.Zero(t, got.AtST())
			}
			require.Equal(t, chunkenc.ValNone, got.Next())
			require.Equal(t, chunkenc.ValNone, got.Seek(0))
			require.NoError(t, got.Err())
			got = NewIterator(b[1:])
			require.Equal(t, chunkenc.ValFloat, got.Seek(2001))
			require.EqualValues(t, 2002, got.AtT())
			require.Equal(t, chunkenc.ValFloat, got.Seek(5))
			require.EqualValues(t, 2002, got.AtT())
			require.Equal(t, chunkenc.ValNone, got.Seek(1<<40))
			for n := range len(tc.c.Bytes()) {
				e.AppendChunk(nil, tc.c.Encoding(), tc.c.Bytes()[:n])
			}
			_, ok = e.AppendChunk(nil, tc.c.Encoding(), tc.c.Bytes()[:len(tc.c.Bytes())/2])
			require.False(t, ok)
		})
	}
	require.ErrorIs(t, NewIterator([]byte("no chunk")).Err(), errCorrupt)
	require.Zero(t, SourceSize([]byte("no chunk")))
}

func FuzzAppendUntil(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	var e Encoder
	for range 20 {
		if b, ok := e.encode(nil, columns(rng, 1+rng.IntN(30)), 1<<20); ok {
			f.Add(b, int64(1)<<41)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, until int64) {
		c := xorcolumn.Columns{T: []int64{1}, V: []float64{2}}
		whole, err := AppendUntil(&c, b, until)
		require.Equal(t, err, Check(b))
		require.Equal(t, len(c.T), len(c.V))
		if err != nil {
			require.ErrorIs(t, err, errCorrupt)
			require.Len(t, c.T, 1)
			require.False(t, whole)
		}
		require.LessOrEqual(t, len(c.T), 1+maxSamples)
	})
}

// counter is a chunk of a counter with two decimals, scraped every 15 s with a jitter of
// 10 ms, with a gap, and a fall every ten minutes.
func counter(b *testing.B) (*chunkenc.XORChunk, *xorcolumn.Columns) {
	rng := rand.New(rand.NewPCG(5, 6))
	x := chunkenc.NewXORChunk()
	app, err := x.Appender()
	require.NoError(b, err)
	c := &xorcolumn.Columns{}
	for i := range int64(140) {
		if i >= 40 && i < 60 {
			continue
		}
		at := i*15_000 + rng.Int64N(21)
		v := math.Floor(2.3*(float64(at)+0.3*float64(at%600_000))) / 100
		app.Append(0, at, v)
		c.T, c.V = append(c.T, at), append(c.V, v)
	}
	return x, c
}

// BenchmarkDecode compares both encodings.
func BenchmarkDecode(b *testing.B) {
	x, c := counter(b)
	var e Encoder
	enc, ok := e.encode(nil, c, 1<<20)
	require.True(b, ok)
	b.Logf("XOR %d bytes, columns %d", len(x.Bytes()), len(enc))
	var out xorcolumn.Columns
	run := func(name string, decode func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				out.Reset()
				if err := decode(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.Len()), "ns/sample")
		})
	}
	run("xor", func() error { return out.AppendXOR(x.Bytes()) })
	run("columns", func() error { _, err := AppendUntil(&out, enc, math.MaxInt64); return err })
	run("encode", func() error { enc, _ = e.encode(enc[:0], c, 1<<20); return nil })
}

// Vector instructions fill in what the loops do, for all widths, lengths and places.
func TestColumn_VectorsAreTheLoops(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		n := 1 + rng.IntN(60)
		c := column{first: rng.Int64N(1<<40) - 1<<39, vectorState: vectorState{least: rng.Int64N(1<<20) - 1<<19}, width: []int{0, 1, 2, 4, 8}[rng.IntN(5)], small: rng.IntN(2) == 0}
		c.data = make([]byte, (n-1+padding)*c.width)
		for i := range c.data {
			c.data[i] = byte(rng.Uint32())
		}
		if c.width == 8 {
			clear(c.data)
		}
		ts, vs := make([]int64, n+padding), make([]float64, n+padding)
		c.decode(ts, n)
		c.decodeFloats(vs, n, 100)
		v := c.first
		for i := range n {
			if i > 0 {
				v += c.least + c.step(c.data, i-1)
			}
			require.Equal(t, v, ts[i], "width %d, %d of %d", c.width, i, n)
			require.Equal(t, float64(v)/100, vs[i], "width %d, %d of %d", c.width, i, n)
		}
	}
}
