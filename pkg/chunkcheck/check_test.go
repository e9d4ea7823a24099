package chunkcheck_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
)

// writer collects bits, the highest of each byte first.
type writer struct {
	b []byte
	n int
}

func (w *writer) put(v uint64, n int) *writer {
	for i := n - 1; i >= 0; i-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[len(w.b)-1] |= byte(v>>i&1) << (7 - w.n%8)
		w.n++
	}
	return w
}

// wide puts a varbit with a number of 64 bits.
func (w *writer) wide(v uint64) *writer { return w.put(255, 8).put(v, 64) }

// layout begins a chunk of n samples with the schema.
func layout(n int, schema int32) *writer {
	w := &writer{}
	return w.put(uint64(n), 16).put(0, 8).put(0, 8).wide(uint64(int64(schema)))
}

func histogramEncodings() []chunkenc.Encoding {
	return []chunkenc.Encoding{
		chunkenc.EncHistogram, chunkenc.EncFloatHistogram, chunkenc.EncHistogramST, chunkenc.EncFloatHistogramST,
	}
}

func TestCheck_RefusesHistogramsThatAnnounceMoreThanTheyHold(t *testing.T) {
	const custom = histogram.CustomBucketsSchema
	hostile := map[string][]byte{
		"one span of 2^32-1":     layout(1, 0).wide(1).wide(math.MaxUint32).wide(0).wide(0).put(0, 400).b,
		"one span of 2^28":       layout(1, 0).wide(1).wide(1<<28).wide(0).wide(0).put(0, 400).b,
		"length beyond 32 bits":  layout(1, 0).wide(1).wide(1<<32).wide(0).wide(0).put(0, 400).b,
		"a negative span":        layout(1, 0).wide(0).wide(1).wide(1<<31).wide(0).put(0, 400).b,
		"many spans add up":      layout(1, 0).wide(3).wide(400).wide(0).wide(400).wide(0).wide(400).wide(0).wide(0).put(0, 500).b,
		"number of spans":        layout(1, 0).wide(1<<40).put(0, 400).b,
		"number of spans, int64": layout(1, 0).wide(1<<63).put(0, 400).b,
		"offset beyond 32 bits":  layout(1, 0).wide(1).wide(1).wide(1<<40).wide(0).put(0, 400).b,
		"spans run backwards":    layout(1, 0).wide(2).wide(1).wide(0).wide(1).wide(math.MaxUint64).wide(0).put(0, 400).b,
		"bounds":                 layout(1, custom).wide(1).wide(1).wide(0).wide(0).wide(1<<31).put(0, 400).b,
		"bounds, int64":          layout(1, custom).wide(0).wide(0).wide(1<<63).put(0, 400).b,
		"bucket without a bound": layout(1, custom).wide(1).wide(3).wide(0).wide(0).wide(1).wide(5).put(0, 400).b,
		"negative custom":        layout(1, custom).wide(0).wide(1).wide(1).wide(0).wide(1).wide(5).put(0, 400).b,
		"samples":                layout(16383, 0).wide(0).wide(0).put(0, 400).b,
		"threshold not a number": (&writer{}).put(1, 16).put(0, 8).put(255, 8).put(math.Float64bits(math.NaN()), 64).wide(0).wide(0).wide(0).put(0, 400).b,
		"ends in the layout":     layout(1, 0).wide(1).b,
		"ends in the threshold":  (&writer{}).put(1, 16).put(0, 8).put(255, 8).b,
		"no layout":              {0, 1, 0},
		"shorter than a header":  {0, 1},
	}
	for name, b := range hostile {
		for _, enc := range histogramEncodings() {
			require.Error(t, chunkcheck.Check(enc, b), "%s, %s", name, enc)
		}
	}
}

func TestCheck_RefusesFloatsThatAnnounceMoreThanTheyHold(t *testing.T) {
	for _, enc := range []chunkenc.Encoding{chunkenc.EncXOR, chunkenc.EncXOR2} {
		require.Error(t, chunkcheck.Check(enc, append([]byte{255, 255, 0}, make([]byte, 100)...)), enc)
		require.Error(t, chunkcheck.Check(enc, []byte{0, 1, 0}), enc)
		require.NoError(t, chunkcheck.Check(enc, []byte{0, 0, 0}), enc)
		require.Error(t, chunkcheck.Check(enc, []byte{0}), enc)
	}
	require.Error(t, chunkcheck.Check(chunkenc.EncNone, make([]byte, 100)))
	require.Error(t, chunkcheck.Check(0xff, make([]byte, 100)))
}

// appendTo appends sample i of a kind that fits the encoding.
func appendTo(t *testing.T, app chunkenc.Appender, enc chunkenc.Encoding, i int, kind func(int) *histogram.Histogram) (chunkenc.Chunk, chunkenc.Appender) {
	ts, st := int64(1700000000000+15000*i), int64(1700000000000-i/5)
	switch enc {
	case chunkenc.EncXOR, chunkenc.EncXOR2:
		app.Append(st, ts, float64(i/3))
		return nil, app
	case chunkenc.EncHistogram, chunkenc.EncHistogramST:
		c, _, a, err := app.AppendHistogram(nil, st, ts, kind(i), false)
		require.NoError(t, err)
		return c, a
	default:
		c, _, a, err := app.AppendFloatHistogram(nil, st, ts, kind(i).ToFloat(nil), false)
		require.NoError(t, err)
		return c, a
	}
}

func kinds() map[string]func(int) *histogram.Histogram {
	return map[string]func(int) *histogram.Histogram{
		"exponential": func(i int) *histogram.Histogram { return tsdbutil.GenerateTestHistogram(int64(i)) },
		"custom":      func(i int) *histogram.Histogram { return tsdbutil.GenerateTestCustomBucketsHistogram(int64(i)) },
		"gauge":       func(i int) *histogram.Histogram { return tsdbutil.GenerateTestGaugeHistogram(int64(i)) },
		"empty":       func(int) *histogram.Histogram { return &histogram.Histogram{ZeroThreshold: 0.3} },
		"stale": func(i int) *histogram.Histogram {
			if i%4 == 3 {
				return &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
			}
			return tsdbutil.GenerateTestHistogram(int64(i))
		},
		"growing": func(i int) *histogram.Histogram {
			h := &histogram.Histogram{Schema: 3, Count: uint64(i + 1)}
			h.PositiveSpans = []histogram.Span{{Offset: -5, Length: uint32(i + 1)}}
			for range i + 1 {
				h.PositiveBuckets = append(h.PositiveBuckets, 0)
			}
			h.PositiveBuckets[0] = 1
			h.Count = uint64(i + 1)
			return h
		},
		"one bucket": func(i int) *histogram.Histogram {
			return &histogram.Histogram{
				Schema: 8, Count: 1, PositiveSpans: []histogram.Span{{Offset: math.MaxInt16, Length: 1}}, PositiveBuckets: []int64{1},
			}
		},
	}
}

// Chunks of the appenders of Prometheus are accepted, at every length.
func TestCheck_AcceptsChunksOfPrometheus(t *testing.T) {
	for enc := chunkenc.EncXOR; chunkenc.IsValidEncoding(enc); enc++ {
		for name, kind := range kinds() {
			c, err := chunkenc.NewEmptyChunk(enc)
			require.NoError(t, err)
			app, err := c.Appender()
			require.NoError(t, err)
			for i := range 200 {
				require.NoError(t, chunkcheck.Check(c.Encoding(), c.Bytes()), "%s %s after %d samples", enc, name, i)
				var next chunkenc.Chunk
				if next, app = appendTo(t, app, enc, i, kind); next != nil {
					c = next
				}
			}
			require.Positive(t, c.NumSamples())
		}
	}
}

// readAll reads a chunk as queries do and returns how many bytes were allocated.
func readAll(c chunkenc.Chunk) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	it := c.Iterator(nil)
	// A few samples suffice, because each allocates at most as much.
	for range 3 {
		switch it.Next() {
		case chunkenc.ValHistogram:
			it.AtHistogram(nil)
			it.AtFloatHistogram(nil)
		case chunkenc.ValFloatHistogram:
			it.AtFloatHistogram(nil)
		case chunkenc.ValFloat:
			it.At()
		case chunkenc.ValNone:
		}
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzCheck(f *testing.F) {
	f.Add(uint8(chunkenc.EncHistogram), layout(1, 0).wide(1).wide(math.MaxUint32).wide(0).wide(0).put(0, 400).b)
	f.Add(uint8(chunkenc.EncFloatHistogram), layout(2, histogram.CustomBucketsSchema).wide(1).wide(2).wide(0).wide(0).wide(1).wide(5).put(0, 400).b)
	f.Add(uint8(chunkenc.EncXOR), append([]byte{255, 255}, make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, enc uint8, b []byte) {
		if chunkcheck.Check(chunkenc.Encoding(enc), b) != nil {
			return
		}
		c, err := chunkenc.FromData(chunkenc.Encoding(enc), b)
		require.NoError(t, err)
		// A bit can be a bucket, and a bucket is five numbers and three copies.
		require.LessOrEqual(t, readAll(c), uint64(len(b))*8*8*20+(64<<10))
	})
}

// Real chunks with random bits flipped never allocate more than a multiple of their
// size.
func TestCheck_BoundsAllocationsOfDamagedChunks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for enc := chunkenc.EncXOR; chunkenc.IsValidEncoding(enc); enc++ {
		for name, kind := range kinds() {
			c, err := chunkenc.NewEmptyChunk(enc)
			require.NoError(t, err)
			app, err := c.Appender()
			require.NoError(t, err)
			for i := range 20 {
				var next chunkenc.Chunk
				if next, app = appendTo(t, app, enc, i, kind); next != nil {
					c = next
				}
			}
			for range 300 {
				b := append([]byte(nil), c.Bytes()...)
				binary.BigEndian.PutUint16(b, uint16(r.IntN(40)))
				for range 1 + r.IntN(3) {
					bit := r.IntN(8 * min(len(b), 40))
					b[bit/8] ^= 1 << (bit % 8)
				}
				if chunkcheck.Check(c.Encoding(), b) != nil {
					continue
				}
				bad, err := chunkenc.FromData(c.Encoding(), b)
				require.NoError(t, err)
				require.LessOrEqual(t, readAll(bad), uint64(len(b))*8*8*20+(64<<10), "%s %s %x", enc, name, b)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(b, err)
	for i := range 20 {
		_, _, app, err = app.AppendHistogram(nil, 0, int64(15000*i), tsdbutil.GenerateTestHistogram(int64(i)), true)
		require.NoError(b, err)
	}
	for b.Loop() {
		if err := chunkcheck.Check(chunkenc.EncHistogram, c.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
