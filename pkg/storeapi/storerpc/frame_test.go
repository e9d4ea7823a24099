package storerpc

import (
	"fmt"
	"math/rand"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
)

// randomSeries has all that can stand in a series.
func randomSeries(rnd *rand.Rand) storeapi.Series {
	b := labels.NewBuilder(labels.EmptyLabels())
	for range rnd.Intn(12) {
		value := "v"
		switch rnd.Intn(10) {
		case 0:
			value = strings.Repeat("x", 100+rnd.Intn(200))
		case 1:
			value = strings.Repeat("y", 70_000)
		}
		name := fmt.Sprintf("n%d", rnd.Intn(30))
		if rnd.Intn(20) == 0 {
			name = strings.Repeat(name, 200)
		}
		b.Set(name, value)
	}
	data := func() storeapi.Data {
		d := storeapi.Data{Encoding: chunkenc.Encoding(1 + rnd.Intn(6)), Bytes: make([]byte, 3+rnd.Intn(300))}
		rnd.Read(d.Bytes[2:]) // the first two count samples
		if rnd.Intn(2) == 0 {
			d.Hash = rnd.Uint64()
		}
		return d
	}
	s := storeapi.Series{Labels: b.Labels()}
	for range rnd.Intn(4) {
		c := storeapi.Chunk{MinTime: rnd.Int63n(100) - 50, MaxTime: rnd.Int63()}
		if rnd.Intn(3) > 0 {
			c.Raw = data()
		} else {
			c.Aggr = &storeapi.Aggregates{Count: data(), Max: data()}
			if rnd.Intn(2) == 0 {
				c.Aggr.Sum, c.Aggr.Min, c.Aggr.Counter = data(), data(), data()
			}
			c.Aggr.Resolution = int64(rnd.Intn(3)) * 300_000
		}
		s.Chunks = append(s.Chunks, c)
	}
	return s
}

// slow is the generated form of a series.
func slow(s storeapi.Series) *storepb.Series {
	out := &storepb.Series{}
	s.Labels.Range(func(l labels.Label) {
		out.Labels = append(out.Labels, &labelpb.Label{Name: l.Name, Value: l.Value})
	})
	chunk := func(d storeapi.Data) *storepb.Chunk {
		if d.Bytes == nil {
			return nil
		}
		return &storepb.Chunk{Type: storepb.Chunk_Encoding(d.Encoding - 1), Data: d.Bytes, Hash: d.Hash}
	}
	for _, c := range s.Chunks {
		x := &storepb.AggrChunk{MinTime: c.MinTime, MaxTime: c.MaxTime, Raw: chunk(c.Raw)}
		if a := c.Aggr; a != nil {
			x.Count, x.Sum, x.Min, x.Max, x.Counter = chunk(a.Count), chunk(a.Sum), chunk(a.Min), chunk(a.Max), chunk(a.Counter)
			if a.Resolution != 0 { // a field that the generated code does not know
				b := protowire.AppendTag(nil, 7001, protowire.VarintType)
				x.ProtoReflect().SetUnknown(protowire.AppendVarint(b, uint64(a.Resolution)))
			}
		}
		out.Chunks = append(out.Chunks, x)
	}
	return out
}

func bytesOf(t testing.TB, m any) []byte {
	bufs, err := Codec().Marshal(m)
	require.NoError(t, err)
	return bufs.Materialize()
}

// TestFrames_EqualGeneratedCode compares our encoder and decoder with the
// generated ones, byte by byte and value by value.
func TestFrames_EqualGeneratedCode(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	dec := &frame{}
	for range 300 {
		var in []storeapi.Series
		batch := &storepb.SeriesBatch{}
		enc := &frameEncoder{pool: &framePool{}, batched: true}
		for range 1 + rnd.Intn(5) {
			s := randomSeries(rnd)
			in = append(in, s)
			batch.Series = append(batch.Series, slow(s))
			enc.add(s)
		}
		want, err := (&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Batch{Batch: batch}}).MarshalVT()
		require.NoError(t, err)
		msg := enc.take()
		require.True(t, proto.Equal(msg, &storepb.SeriesResponse{Result: &storepb.SeriesResponse_Batch{Batch: batch}}))
		got := bytesOf(t, msg)
		require.Equal(t, want, got)

		require.NoError(t, dec.UnmarshalView(got))
		require.Equal(t, in, normal(dec.series))

		single := &frameEncoder{pool: &framePool{}}
		single.add(in[0])
		want, err = (&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Series{Series: slow(in[0])}}).MarshalVT()
		require.NoError(t, err)
		got = bytesOf(t, single.take())
		require.Equal(t, want, got)
		require.NoError(t, dec.UnmarshalView(got))
		require.Equal(t, in[:1], normal(dec.series))
	}
}

func normal(in []storeapi.Series) (out []storeapi.Series) {
	for _, s := range in {
		if len(s.Chunks) == 0 {
			s.Chunks = nil
		}
		out = append(out, s)
	}
	return out
}

func TestFrameLabels_EqualLabelsPackage(t *testing.T) {
	for _, n := range []int{1, 2, 126, 127, 128, 253, 254, 255, 256, 257, 65_535, 65_536, 1 << 20} {
		want := labels.FromStrings(strings.Repeat("n", n), "v", "z", strings.Repeat("v", n), "zz", "")
		want = labels.NewBuilder(want).Del("zz").Labels()
		enc := &frameEncoder{pool: &framePool{}}
		enc.add(storeapi.Series{Labels: want})
		f := &frame{}
		require.NoError(t, f.UnmarshalView(bytesOf(t, enc.take())))
		got := f.series[0].Labels
		require.True(t, labels.Equal(want, got))
		require.Equal(t, want.Hash(), got.Hash())
		require.Zero(t, labels.Compare(want, got))
		require.Equal(t, want.String(), got.String())
	}
}

func decode(t *testing.T, s *storepb.Series) (*frame, error) {
	b, err := (&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Series{Series: s}}).MarshalVT()
	require.NoError(t, err)
	f := &frame{}
	return f, f.UnmarshalView(b)
}

func TestDecode_RepairsOrRejects(t *testing.T) {
	f, err := decode(t, &storepb.Series{Labels: []*labelpb.Label{{Name: "b", Value: "2"}, {Name: "c"}, {Name: "a", Value: "1"}}})
	require.NoError(t, err)
	require.Equal(t, `{a="1", b="2"}`, f.series[0].Labels.String())

	_, err = decode(t, &storepb.Series{Labels: []*labelpb.Label{{Name: "a", Value: "2"}, {Name: "a", Value: "1"}}})
	require.ErrorContains(t, err, `the label "a" twice`)

	for _, c := range []*storepb.Chunk{{}, {Data: []byte{0}}, {Type: storepb.Chunk_HISTOGRAM, Data: []byte{0, 1}}, {Type: 255, Data: make([]byte, 9)}} {
		f, err = decode(t, &storepb.Series{Chunks: []*storepb.AggrChunk{{Raw: c}, {Raw: &storepb.Chunk{Data: []byte{0, 0}}}}})
		if err == nil {
			require.Error(t, f.bad, "%v", c)
			require.Len(t, f.series[0].Chunks, 1, "only the bad one is left out")
		}
	}
	f, err = decode(t, &storepb.Series{Chunks: []*storepb.AggrChunk{{MinTime: 1, MaxTime: 2}}})
	require.NoError(t, err)
	require.Empty(t, f.series[0].Chunks)
}

// TestFrame_KeepsNothingOfOtherFrames decodes into the same frame again and looks
// whether what was handed out before is still the same.
func TestFrame_KeepsNothingOfOtherFrames(t *testing.T) {
	rnd := rand.New(rand.NewSource(2))
	f := &frame{}
	var kept []storeapi.Series
	var want []string
	for range 50 {
		enc := &frameEncoder{pool: &framePool{}, batched: true}
		for range 5 {
			enc.add(randomSeries(rnd))
		}
		data := bytesOf(t, enc.take())
		require.NoError(t, f.UnmarshalView(data))
		clear(data)
		for _, s := range f.series {
			s.Chunks = append([]storeapi.Chunk(nil), s.Chunks...)
			kept = append(kept, s)
			want = append(want, slow(s).String())
		}
	}
	for i, s := range kept {
		require.Equal(t, want[i], slow(s).String())
	}
}

// FuzzFrame feeds arbitrary bytes: the decoder may refuse them, but not panic,
// and what it accepts keeps the promises of labels and chunks.
func FuzzFrame(f *testing.F) {
	rnd := rand.New(rand.NewSource(3))
	for range 20 {
		enc := &frameEncoder{pool: &framePool{}, batched: rnd.Intn(2) == 0}
		s := randomSeries(rnd)
		if s.Labels.ByteSize() < 1000 {
			enc.add(s)
			f.Add(bytesOf(f, enc.take()))
		}
	}
	for range 20 {
		if s := packable(rnd); s.Labels.ByteSize() < 1000 {
			f.Add(packedFrame(f, s, s))
		}
	}
	w, err := (&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Warning{Warning: "w"}}).MarshalVT()
	require.NoError(f, err)
	f.Add(w)
	f.Fuzz(func(t *testing.T, data []byte) {
		fr := &frame{}
		if fr.UnmarshalView(append([]byte(nil), data...)) != nil {
			return
		}
		kept := &frame{}
		require.NoError(t, Codec().Unmarshal(bufferOf(data), kept))
		require.Equal(t, fr.series, kept.series)
		for _, s := range fr.series {
			last := ""
			first := true
			s.Labels.Range(func(l labels.Label) {
				require.True(t, first || last < l.Name)
				require.NotEmpty(t, l.Value)
				last, first = l.Name, false
			})
			for _, c := range s.Chunks {
				if c.Raw.Bytes == nil {
					require.NotNil(t, c.Aggr)
					continue
				}
				if ch, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes); err == nil {
					_ = ch.NumSamples()
				}
			}
		}
	})
}

// FuzzRequest turns whatever a client sends into a request or an error.
func FuzzRequest(f *testing.F) {
	r := &storeapi.Request{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "a", "b|c")}, WantStats: true,
		Hints: &storeapi.Hints{Func: "rate"}, Shard: &storeapi.Shard{Total: 2}, Aggregates: []storeapi.Aggregate{storeapi.AggregateSum}}
	w, err := seriesRequestToWire(r, 64)
	require.NoError(f, err)
	b, err := w.MarshalVT()
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		in := &storepb.SeriesRequest{}
		if in.UnmarshalVT(data) != nil {
			return
		}
		for _, strict := range []bool{true, false} {
			r, err := seriesRequestFromWire(in, strict)
			if err != nil {
				require.ErrorIs(t, err, storeapi.ErrInvalid)
				continue
			}
			_, err = seriesRequestToWire(r, 64)
			require.NoError(t, err)
		}
	})
}

// Servers of Thanos send each series in a message of its own. A label set holds the memory
// of its frame, so that must not be more than the message, whatever its chunks take.
func TestFrame_OfOneSeriesHoldsLittleMemory(t *testing.T) {
	rnd := rand.New(rand.NewSource(7))
	var f frame
	for i := range 50 {
		s := storeapi.Series{Labels: labels.FromStrings("__name__", "m", "i", strconv.Itoa(i))}
		for range 1 + rnd.Intn(20) {
			c := chunkenc.NewXORChunk()
			app, err := c.Appender()
			require.NoError(t, err)
			for j := range int64(1 + rnd.Intn(100)) {
				app.Append(0, j*15_000, rnd.Float64())
			}
			s.Chunks = append(s.Chunks, storeapi.Chunk{MaxTime: 1_500_000, Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: c.Bytes()}})
		}
		b := bytesOf(t, &storepb.SeriesResponse{Result: &storepb.SeriesResponse_Series{Series: slow(s)}})
		require.NoError(t, f.UnmarshalView(b))
		require.Equal(t, s.Labels, f.series[0].Labels)
		require.LessOrEqual(t, cap(f.labels.arena.buf), 400, "the labels of a message of %d bytes", len(b))
		require.LessOrEqual(t, cap(f.data), len(b))
	}
}
