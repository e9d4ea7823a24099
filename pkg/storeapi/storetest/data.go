// Package storetest holds the acceptance suite of storeapi.Store, and the parts
// with which implementations are tested: data, a fake, and the way through gRPC.
package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Data is the content of a store under test.
type Data struct {
	// External are its external labels; they are not in Series.
	External labels.Labels
	// Series have different label sets, in any order.
	Series []Series
	// XOR2 asks for float chunks of the encoding XOR2. A store that cannot have
	// any holds the samples in its chunks.
	XOR2 bool
}

// Series is a label set with samples in ascending order of time.
type Series struct {
	Labels  labels.Labels
	Samples []Sample
}

// Sample is a float, a histogram (H) or a float histogram (FH).
type Sample struct {
	T  int64
	V  float64
	H  *histogram.Histogram
	FH *histogram.FloatHistogram
}

// NewStore makes a store that holds data. It frees everything with t.Cleanup.
type NewStore func(t *testing.T, data Data) storeapi.Store

// Floats returns n float samples, step milliseconds apart, from time start on.
func Floats(start, step int64, n int) []Sample {
	out := make([]Sample, n)
	for i := range out {
		out[i] = Sample{T: start + int64(i)*step, V: float64(i) + float64(start)/1000}
	}
	return out
}

// Chunks encodes samples, at most perChunk of one kind to a chunk.
func Chunks(t testing.TB, samples []Sample, perChunk int, float chunkenc.Encoding) []storeapi.Chunk {
	t.Helper()
	var out []storeapi.Chunk
	for len(samples) > 0 {
		n := 1
		for n < len(samples) && n < perChunk && kind(samples[n]) == kind(samples[0]) {
			n++
		}
		out = append(out, encode(t, samples[:n], float)...)
		samples = samples[n:]
	}
	return out
}

func kind(s Sample) chunkenc.Encoding {
	switch {
	case s.H != nil:
		return chunkenc.EncHistogram
	case s.FH != nil:
		return chunkenc.EncFloatHistogram
	}
	return chunkenc.EncXOR
}

// encode starts another chunk where the encoding demands it.
func encode(t testing.TB, samples []Sample, float chunkenc.Encoding) (out []storeapi.Chunk) {
	t.Helper()
	enc := kind(samples[0])
	if enc == chunkenc.EncXOR {
		enc = float
	}
	c, err := chunkenc.NewEmptyChunk(enc)
	require.NoError(t, err)
	app, err := c.Appender()
	require.NoError(t, err)
	mint := samples[0].T
	for i, s := range samples {
		var next chunkenc.Chunk
		recoded := false
		switch {
		case s.H != nil:
			next, recoded, app, err = app.AppendHistogram(nil, 0, s.T, s.H, false)
		case s.FH != nil:
			next, recoded, app, err = app.AppendFloatHistogram(nil, 0, s.T, s.FH, false)
		default:
			app.Append(0, s.T, s.V)
		}
		require.NoError(t, err)
		if next != nil && !recoded && i > 0 {
			out = append(out, chunkOf(c, mint, samples[i-1].T))
			mint = s.T
		}
		if next != nil {
			c = next
		}
	}
	return append(out, chunkOf(c, mint, samples[len(samples)-1].T))
}

func chunkOf(c chunkenc.Chunk, mint, maxt int64) storeapi.Chunk {
	return storeapi.Chunk{MinTime: mint, MaxTime: maxt, Raw: storeapi.Data{Encoding: c.Encoding(), Bytes: c.Bytes()}}
}

// Decode returns the samples of raw chunks that are within [mint, maxt], by
// time; of samples with the same time the first stays.
func Decode(t testing.TB, chunks []storeapi.Chunk, mint, maxt int64) []Sample {
	t.Helper()
	var out []Sample
	for _, c := range chunks {
		ch, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		it := ch.Iterator(nil)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			s := Sample{T: it.AtT()}
			if s.T < c.MinTime || s.T > c.MaxTime {
				t.Fatalf("sample at %d in a chunk of [%d, %d]", s.T, c.MinTime, c.MaxTime)
			}
			switch vt {
			case chunkenc.ValFloat:
				_, s.V = it.At()
			case chunkenc.ValHistogram:
				_, s.H = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				_, s.FH = it.AtFloatHistogram(nil)
			}
			if s.T >= mint && s.T <= maxt {
				out = append(out, s)
			}
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	}
	slices.SortStableFunc(out, func(a, b Sample) int { return int(a.T - b.T) })
	return slices.CompactFunc(out, func(a, b Sample) bool { return a.T == b.T })
}

// text makes samples comparable. Hints about counter resets depend on how
// samples were cut into chunks, so they are left out.
func text(samples []Sample) []string {
	out := make([]string, 0, len(samples))
	for _, s := range samples {
		switch {
		case s.H != nil:
			out = append(out, fmt.Sprintf("%d histogram %s schema %d", s.T, s.H.Copy().Compact(0), s.H.Schema))
		case s.FH != nil:
			out = append(out, fmt.Sprintf("%d float histogram %s schema %d", s.T, s.FH.Copy().Compact(0), s.FH.Schema))
		default:
			out = append(out, fmt.Sprintf("%d %v", s.T, s.V))
		}
	}
	return out
}

// answer is the label set that the store has to return for a series.
func (d Data) answer(l labels.Labels, r *storeapi.Request) labels.Labels {
	b := labels.NewBuilder(l)
	d.External.Range(func(e labels.Label) { b.Set(e.Name, e.Value) })
	return b.Del(r.WithoutReplicaLabels...).Labels()
}

// matches reports whether a series has to be returned, by its complete labels.
func (d Data) matches(l labels.Labels, r *storeapi.Request) bool {
	full := d.answer(l, &storeapi.Request{})
	for _, m := range r.Matchers {
		if !m.Matches(full.Get(m.Name)) {
			return false
		}
	}
	if r.Shard == nil {
		return true
	}
	ok, _ := r.Shard.Matches(d.answer(l, r), nil)
	return ok
}
