package storerpc

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every buffer has the requested length, and no bytes of another one behind it.
func TestBufferPool_BuffersHaveRequestedLength(t *testing.T) {
	p := &bufferPool{}
	held := map[*[]byte]byte{}
	for i := range 20_000 {
		if len(held) > 50 {
			for b, mark := range held {
				for _, x := range *b {
					require.Equal(t, mark, x, "a buffer was given to two holders")
				}
				delete(held, b)
				p.Put(b)
				break
			}
		}
		n := rand.IntN(1 << rand.IntN(15))
		b := p.Get(n)
		require.Len(t, *b, n)
		for j := range *b {
			(*b)[j] = byte(i)
		}
		held[b] = byte(i)
	}
	big := p.Get(5 << 20)
	require.Len(t, *big, 5<<20)
	p.Put(big)
	odd := make([]byte, 0, 700)
	p.Put(&odd)
	require.GreaterOrEqual(t, cap(*p.Get(512)), 512)
}
