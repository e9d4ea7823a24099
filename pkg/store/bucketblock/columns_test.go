package bucketblock

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A request that comes again after some others of the same block gets all turns soon,
// whatever their number is.
func TestTurnOf_EachDistance(t *testing.T) {
	for distance := uint32(1); distance <= 32; distance++ {
		for first := range distance {
			seen := map[uint32]bool{}
			n, requests := first, 0
			for ; len(seen) < shares; requests++ {
				require.Less(t, requests, 40, "each %d-th request, from %d on, has the turns %v", distance, first, seen)
				n += distance
				require.Less(t, turnOf(n), uint32(shares))
				seen[turnOf(n)] = true
			}
		}
	}
	seen := map[uint32]bool{}
	for n := uint32(2); n <= 6; n++ { // after the one that reads the bucket
		seen[turnOf(n)] = true
	}
	require.Len(t, seen, shares)
}
