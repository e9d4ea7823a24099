package dedup

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

type times struct{ mint, maxt int64 }

func spanOf(s times) (mint, maxt int64) { return s.mint, s.maxt }

func TestSplit_PutsEachChunkIntoTheFirstLayerWithRoom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var chunks []times
		for range rnd.IntN(60) {
			mint := rnd.Int64N(100)
			chunks = append(chunks, times{mint, mint + rnd.Int64N(20)})
		}
		slices.SortFunc(chunks, func(a, b times) int { return int(a.mint - b.mint) })
		var want [][]times
	next:
		for _, c := range chunks {
			for i, layer := range want {
				if layer[len(layer)-1].maxt < c.mint {
					want[i] = append(want[i], c)
					continue next
				}
			}
			want = append(want, []times{c})
		}
		if len(want) < 2 {
			want = [][]times{chunks}
		}
		require.Equal(t, want, Split(chunks, spanOf, 0))
		require.Equal(t, want, Split(chunks, spanOf, len(want)))
		if len(want) > 1 {
			require.Nil(t, Split(chunks, spanOf, len(want)-1))
		}
	}
}

// The memory for the layers of a chunk that is repeated is in proportion to their
// number, not to its square.
func TestSplit_TakesLittleMemoryForARepeatedChunk(t *testing.T) {
	chunks := make([]times, 20_000)
	for i := range chunks {
		chunks[i] = times{0, 10}
	}
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			require.Len(t, Split(chunks, spanOf, 0), len(chunks))
		}
	})
	require.Less(t, result.AllocedBytesPerOp(), int64(len(chunks)*400))
}
