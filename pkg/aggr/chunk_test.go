package aggr_test

import (
	"encoding/hex"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func xor(t testing.TB, samples ...any) storeapi.Data {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i := 0; i < len(samples); i += 2 {
		app.Append(0, int64(samples[i].(int)), samples[i+1].(float64))
	}
	return storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: c.Bytes()}
}

func floatHist(t testing.TB, hint histogram.CounterResetHint, samples ...any) storeapi.Data {
	c := chunkenc.NewFloatHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i := 0; i < len(samples); i += 2 {
		n := samples[i+1].(float64)
		h := &histogram.FloatHistogram{
			CounterResetHint: hint, Count: n, Sum: 3 * n,
			PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{n},
		}
		_, _, app, err = app.AppendFloatHistogram(nil, 0, int64(samples[i].(int)), h, true)
		require.NoError(t, err)
	}
	return storeapi.Data{Encoding: chunkenc.EncFloatHistogram, Bytes: c.Bytes()}
}

// The bytes are written by hand from the drawing in
// docs/format/aggregate-chunk.md.
func TestAppend_WritesGoldenBytes(t *testing.T) {
	golden := func(a storeapi.Aggregates, want string) {
		t.Helper()
		b, err := aggr.Append(nil, &a)
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(b))
		back, err := aggr.Decode(b)
		require.NoError(t, err)
		require.Equal(t, a, back)
	}
	one := xor(t, 1, 1.0) // 2 bytes of count, varint 1 = 02, 1.0 = 3ff0…
	const oneHex = "0b" + "01" + "0001" + "02" + "3ff0000000000000"
	golden(storeapi.Aggregates{Count: one, Sum: one, Min: one, Max: one, Counter: one},
		oneHex+oneHex+oneHex+oneHex+oneHex)
	golden(storeapi.Aggregates{Counter: one}, "00000000"+oneHex)
	golden(storeapi.Aggregates{Count: one, Max: one, Counter: one}, oneHex+"0000"+oneHex+oneHex)

	// A length of more than one byte, and the encoding byte outside of it.
	var long []any
	for i := range 120 {
		long = append(long, i*1000, float64(i*i)+0.1)
	}
	l := xor(t, long...)
	require.Greater(t, len(l.Bytes), 127)
	b, err := aggr.Append(nil, &storeapi.Aggregates{Counter: l})
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 0, 0, byte(len(l.Bytes)&0x7f | 0x80), byte(len(l.Bytes) >> 7), 1}, b[:7])
	require.Equal(t, l.Bytes, b[7:])

	h := floatHist(t, histogram.UnknownCounterReset, 1, 5.0, 2, 7.0)
	golden(storeapi.Aggregates{Count: one, Sum: h, Counter: h},
		oneHex+hex.EncodeToString([]byte{byte(len(h.Bytes)), 3})+hex.EncodeToString(h.Bytes)+
			"0000"+hex.EncodeToString([]byte{byte(len(h.Bytes)), 3})+hex.EncodeToString(h.Bytes))
}

func TestAppend_RefusesChunkWithoutCounter(t *testing.T) {
	_, err := aggr.Append(nil, &storeapi.Aggregates{Count: xor(t, 1, 1.0)})
	require.ErrorContains(t, err, "it has no counter")
}

func TestDecode_RefusesDamagedChunk(t *testing.T) {
	one := xor(t, 1, 1.0)
	whole, err := aggr.Append(nil, &storeapi.Aggregates{Count: one, Sum: one, Min: one, Max: one, Counter: one})
	require.NoError(t, err)
	for n := range whole {
		_, err := aggr.Decode(whole[:n])
		require.ErrorIs(t, err, aggr.ErrCorrupt, "%d bytes", n)
	}
	for what, b := range map[string][]byte{
		"bytes after the end":      append(append([]byte{}, whole...), 0),
		"unknown encoding":         {2, 99, 0, 1, 0, 0, 0, 0},
		"aggregate inside":         {2, 0xff, 0, 1, 0, 0, 0, 0},
		"shorter than a header":    {1, 1, 0, 0, 0, 0, 0},
		"histogram without header": {2, 3, 0, 0, 0, 0, 0, 0},
		"length beyond all bounds": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1},
		"length of eleven bytes":   {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1},
	} {
		_, err := aggr.Decode(b)
		require.ErrorIs(t, err, aggr.ErrCorrupt, what)
	}
	a, err := aggr.Decode([]byte{0, 0, 0, 0, 0})
	require.NoError(t, err, "a chunk without anything, as others may write it")
	require.Zero(t, a)
}

func TestPool_ReturnsAggregateChunk(t *testing.T) {
	a := storeapi.Aggregates{Count: xor(t, 1, 1.0, 2, 3.0), Counter: xor(t, 1, 1.0)}
	b, err := aggr.Append(nil, &a)
	require.NoError(t, err)
	p := aggr.NewPool()
	c, err := p.Get(aggr.Encoding, b)
	require.NoError(t, err)
	require.Equal(t, 2, c.NumSamples())
	require.Equal(t, b, c.Bytes())
	require.Equal(t, chunkenc.ValNone, c.Iterator(nil).Next())
	require.Error(t, c.Iterator(nil).Err())
	_, err = c.Appender()
	require.Error(t, err)
	require.NoError(t, p.Put(c))

	b, err = aggr.Append(nil, &storeapi.Aggregates{Counter: xor(t, 1, 1.0, 2, 2.0, 2, 2.0)})
	require.NoError(t, err)
	require.Equal(t, 3, aggr.NewChunk(b).NumSamples())
	require.Zero(t, aggr.NewChunk([]byte{200}).NumSamples())

	raw, err := p.Get(chunkenc.EncXOR, xor(t, 1, 1.0).Bytes)
	require.NoError(t, err)
	require.NoError(t, p.Put(raw))
	_, err = p.Get(chunkenc.EncHistogram, []byte{0, 1})
	require.ErrorIs(t, err, aggr.ErrCorrupt)
}

func FuzzDecode(f *testing.F) {
	one := xor(f, 1, 1.0)
	h := floatHist(f, histogram.GaugeType, 1, 5.0, 2, 7.0)
	for _, a := range []storeapi.Aggregates{
		{Count: one, Sum: one, Min: one, Max: one, Counter: one},
		{Count: one, Sum: h, Counter: h},
		{Counter: one},
	} {
		b, err := aggr.Append(nil, &a)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := aggr.Decode(b)
		if err != nil {
			require.ErrorIs(t, err, aggr.ErrCorrupt)
			return
		}
		require.Equal(t, aggr.NumSamples(&a), aggr.NewChunk(b).NumSamples())
		if len(a.Counter.Bytes) == 0 {
			return
		}
		again, err := aggr.Append(nil, &a)
		require.NoError(t, err)
		back, err := aggr.Decode(again)
		require.NoError(t, err)
		require.Equal(t, a, back)
	})
}
