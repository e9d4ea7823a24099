package dedup

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// piece is a chunk with its timestamps in the open.
type piece struct {
	stream string
	ts     []int64
	chunk  *chunkenc.XORChunk
}

func makePiece(t testing.TB, stream string, ts []int64) piece {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, at := range ts {
		app.Append(0, at, float64(at))
	}
	return piece{stream: stream, ts: ts, chunk: c}
}

func pieces() Chunks[piece] {
	return Chunks[piece]{
		Span:    func(p piece) (int64, int64) { return p.ts[0], p.ts[len(p.ts)-1] },
		Samples: func(p piece) chunkenc.Iterator { return p.chunk.Iterator(nil) },
	}
}

func grid(start, step int64, n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = start + int64(i)*step
	}
	return out
}

func TestSameGrid(t *testing.T) {
	f := func(a, b []int64, same, known bool) {
		t.Helper()
		s, k := SameGrid(makePiece(t, "", a).chunk.Iterator(nil), makePiece(t, "", b).chunk.Iterator(nil), 0, 1000)
		require.Equal(t, known, k)
		require.Equal(t, same, s)
	}
	f(grid(0, 15, 50), grid(0, 15, 50), true, true)
	f(grid(0, 15, 50), grid(150, 15, 50), true, true)
	f(grid(0, 15, 50), grid(7, 15, 50), false, true)
	f(grid(0, 15, 50), []int64{2000, 2015}, false, false)
	f([]int64{0, 15, 45, 60}, []int64{0, 30, 45, 60}, true, true)  // each lacks another one
	f([]int64{0, 15, 30, 45}, []int64{1, 16, 31, 45}, false, true) // one meeting is chance
	f([]int64{100}, []int64{100}, true, true)
	f([]int64{100}, []int64{101}, false, true)
}

func TestCopiesOfAnHAPairAreNone(t *testing.T) {
	var all []piece
	for i := range int64(20) {
		all = append(all, makePiece(t, "a", grid(i*1800, 15, 120)), makePiece(t, "b", grid(i*1800+7, 15, 120)))
	}
	decoded := 0
	f := pieces()
	samples := f.Samples
	f.Samples = func(p piece) chunkenc.Iterator { decoded++; return samples(p) }
	require.Nil(t, Copies(all, f))
	require.LessOrEqual(t, decoded, 2*maxProbes, "an HA pair must cost next to nothing")
}

// Streams stored three times each, with samples missing here and there and
// other borders of chunks on each node: every stream comes out in groups of its
// own, and the groups have every sample that any node has.
func TestCopiesKeepEverySample(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var all []piece
		want := map[string]map[int64]bool{}
		for i, stream := range []string{"a", "b"}[:1+rnd.IntN(2)] {
			want[stream] = map[int64]bool{}
			for range 3 {
				all = append(all, node(t, rnd, stream, grid(int64(7*i), 15, 400), want[stream])...)
			}
		}
		slices.SortStableFunc(all, func(x, y piece) int { return int(x.ts[0] - y.ts[0]) })
		groups := Copies(all, pieces())
		require.NotNil(t, groups)
		got := map[string]map[int64]bool{"a": {}, "b": {}}
		for _, g := range groups {
			for _, p := range g {
				require.Equal(t, g[0].stream, p.stream, "seed %d: two streams in one group", seed)
				for _, at := range p.ts {
					got[p.stream][at] = true
				}
			}
		}
		for stream, ts := range want {
			require.Equal(t, ts, got[stream], "seed %d", seed)
		}
	}
}

// While the ring changes, each write goes to the old nodes or to the new ones:
// two chunks that overlap there share no sample, but a node of both rings has
// them all.
func TestCopiesAcrossARingChange(t *testing.T) {
	all := grid(0, 15, 300)
	var before, after []int64
	for i, at := range all {
		if i < 100 || i < 110 && i%2 == 0 {
			before = append(before, at)
		}
		if i >= 110 || i >= 100 && i%2 == 1 {
			after = append(after, at)
		}
	}
	chunks := []piece{makePiece(t, "s", all), makePiece(t, "s", before), makePiece(t, "s", after)}
	require.Len(t, Copies(chunks, pieces()), 1)
}

// node cuts a stream into chunks of random length after dropping a few samples.
func node(t *testing.T, rnd *rand.Rand, stream string, ts []int64, seen map[int64]bool) []piece {
	var out []piece
	var cur []int64
	limit := 60 + rnd.IntN(120)
	for _, at := range ts {
		if rnd.IntN(40) == 0 {
			continue
		}
		seen[at] = true
		if cur = append(cur, at); len(cur) == limit {
			out = append(out, makePiece(t, stream, cur))
			cur = nil
		}
	}
	if len(cur) > 0 {
		out = append(out, makePiece(t, stream, cur))
	}
	return out
}
