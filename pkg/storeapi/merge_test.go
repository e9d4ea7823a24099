package storeapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

func raw(mint, maxt int64, text string) Chunk {
	return Chunk{MinTime: mint, MaxTime: maxt, Raw: Data{Encoding: chunkenc.EncXOR, Bytes: []byte(text)}}
}

func drain(t *testing.T, set SeriesSet) (out []Series) {
	t.Helper()
	for set.Next() {
		s := set.At()
		out = append(out, Series{Labels: s.Labels, Chunks: slices.Clone(s.Chunks)})
	}
	return out
}

func TestMerge_JoinsEqualSeries(t *testing.T) {
	a, b := labels.FromStrings("a", "1"), labels.FromStrings("b", "1")
	set := Merge([]SeriesSet{
		NewSliceSet([]Series{{a, []Chunk{raw(0, 5, "x")}}, {a, []Chunk{raw(6, 9, "y")}}}),
		NewSliceSet(nil),
		NewSliceSet([]Series{{a, []Chunk{raw(0, 5, "x"), raw(0, 7, "z")}}, {b, nil}}),
	}, Order{})
	got := drain(t, set)
	require.NoError(t, set.Err())
	require.Equal(t, []Series{
		{a, []Chunk{raw(0, 5, "x"), raw(0, 7, "z"), raw(6, 9, "y")}},
		{b, []Chunk{}},
	}, got)
	require.NoError(t, set.Close())
}

func TestMerge_KeepsDifferentChunksOfOneSpan(t *testing.T) {
	l := labels.FromStrings("a", "1")
	hashed := raw(0, 5, "x")
	hashed.Raw.Hash = 77
	hist := raw(0, 5, "x")
	hist.Raw.Encoding = chunkenc.EncHistogram
	for _, sets := range [][]SeriesSet{
		{NewSliceSet([]Series{{l, []Chunk{raw(0, 5, "y")}}}), NewSliceSet([]Series{{l, []Chunk{raw(0, 5, "x"), hashed, hist}}})},
		{NewSliceSet([]Series{{l, []Chunk{raw(0, 5, "x"), hist}}}), NewSliceSet([]Series{{l, []Chunk{raw(0, 5, "y")}}})},
	} {
		got := drain(t, Merge(sets, Order{}))
		require.Len(t, got, 1)
		require.Len(t, got[0].Chunks, 3)
		require.Equal(t, "x", string(got[0].Chunks[0].Raw.Bytes))
		require.Equal(t, "y", string(got[0].Chunks[1].Raw.Bytes))
		require.Equal(t, chunkenc.EncHistogram, got[0].Chunks[2].Raw.Encoding)
	}
}

func TestMerge_KeepsFullerAggregates(t *testing.T) {
	l := labels.FromStrings("a", "1")
	count := Data{Encoding: chunkenc.EncXOR, Bytes: []byte("c")}
	sum := Data{Encoding: chunkenc.EncXOR, Bytes: []byte("s")}
	part := Chunk{MinTime: 1, MaxTime: 2, Aggr: &Aggregates{Count: count}}
	full := Chunk{MinTime: 1, MaxTime: 2, Aggr: &Aggregates{Count: count, Sum: sum}}
	for _, cs := range [][]Chunk{{part, full}, {full, part}} {
		got := drain(t, Merge([]SeriesSet{NewSliceSet([]Series{{l, cs[:1]}}), NewSliceSet([]Series{{l, cs[1:]}})}, Order{}))
		require.Equal(t, []Chunk{full}, got[0].Chunks)
	}
}

// A store may not tell the resolution.
func TestMerge_KeepsToldResolution(t *testing.T) {
	l := labels.FromStrings("a", "1")
	chunk := func(resolution int64) Chunk {
		return Chunk{MinTime: 1, MaxTime: 1, Aggr: &Aggregates{Count: Data{Encoding: chunkenc.EncXOR, Bytes: []byte("c")}, Resolution: resolution}}
	}
	for _, cs := range [][]Chunk{{chunk(0), chunk(300_000)}, {chunk(300_000), chunk(0)}} {
		got := drain(t, Merge([]SeriesSet{NewSliceSet([]Series{{l, cs[:1]}}), NewSliceSet([]Series{{l, cs[1:]}})}, Order{}))
		require.Equal(t, []Chunk{chunk(300_000)}, got[0].Chunks)
	}
}

func TestMerge_StopsAtError(t *testing.T) {
	a := labels.FromStrings("a", "1")
	boom := errors.New("boom")
	set := Merge([]SeriesSet{NewSliceSet([]Series{{a, nil}}), ErrSet(boom), WarnSet(Warning{Text: "w"})}, Order{})
	require.False(t, set.Next())
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), boom)
	require.Equal(t, []string{"w"}, set.Warnings().Strings())
}

func TestMerge_OfNothingIsEmpty(t *testing.T) {
	require.False(t, Merge(nil, Order{}).Next())
	require.NoError(t, Merge(nil, Order{}).Close())
}

// TestMerge_EqualsMap computes the merge a second way.
func TestMerge_EqualsMap(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	for round := range 500 {
		want := map[string]map[string]bool{}
		sets := make([]SeriesSet, rnd.Intn(9))
		for i := range sets {
			series := randomSets(rnd, rnd.Intn(12))
			for j := range series {
				k := series[j].Labels.String()
				if want[k] == nil {
					want[k] = map[string]bool{}
				}
				series[j].Chunks = nil
				for range rnd.Intn(3) {
					mint := int64(rnd.Intn(3))
					series[j].Chunks = append(series[j].Chunks, raw(mint, mint+1, fmt.Sprint(rnd.Intn(2))))
				}
				slices.SortFunc(series[j].Chunks, compareSpans)
				for _, c := range series[j].Chunks {
					want[k][fmt.Sprint(c.MinTime, string(c.Raw.Bytes))] = true
				}
			}
			sets[i] = NewSliceSet(series)
		}
		var last labels.Labels
		for _, s := range drain(t, Merge(sets, Order{})) {
			require.Negative(t, labels.Compare(last, s.Labels), "round %d", round)
			last = s.Labels
			require.True(t, slices.IsSortedFunc(s.Chunks, compareChunks))
			chunks := want[s.Labels.String()]
			require.Len(t, s.Chunks, len(chunks))
			for _, c := range s.Chunks {
				require.True(t, chunks[fmt.Sprint(c.MinTime, string(c.Raw.Bytes))])
			}
			delete(want, s.Labels.String())
		}
		require.Empty(t, want, "round %d", round)
	}
}

func TestCut_LimitCountsLabelSets(t *testing.T) {
	a, b, c := labels.FromStrings("a", "1"), labels.FromStrings("b", "1"), labels.FromStrings("c", "1")
	in := []Series{{Labels: a}, {Labels: a}, {Labels: b}, {Labels: b}, {Labels: c}}
	require.Len(t, drain(t, Cut{Limit: 2}.Apply(NewSliceSet(in))), 4)
	require.Len(t, drain(t, Cut{}.Apply(NewSliceSet(in))), 5)
}

// Many different chunks of one span, as one series that comes again and again,
// are joined in no more than a multiple of their number.
func TestMerge_ManyChunksOfOneSpan(t *testing.T) {
	const n = 200_000
	cs := make([]Chunk, n)
	for i := range cs {
		cs[i] = Chunk{MaxTime: 1, Aggr: &Aggregates{Sum: Data{Encoding: 1, Bytes: binary.BigEndian.AppendUint32(nil, uint32(n-i))}}}
	}
	require.Len(t, joinChunks(append(cs, cs[:n/2]...)), n)
}
