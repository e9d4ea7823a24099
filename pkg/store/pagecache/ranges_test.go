package pagecache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// TestPlan reads the numbers of pages and prints the requests for them.
func TestPlan(t *testing.T) {
	datadriven.RunTest(t, "testdata/plan.txt", func(t *testing.T, d *datadriven.TestData) string {
		require.Equal(t, "plan", d.Cmd)
		var gap, most int
		d.ScanArgs(t, "gap", &gap)
		d.ScanArgs(t, "most", &most)
		var pages []uint32
		for _, w := range strings.Fields(d.Input) {
			var p uint32
			_, err := fmt.Sscan(w, &p)
			require.NoError(t, err)
			pages = append(pages, p)
		}
		var out strings.Builder
		for _, r := range plan(pages, gap, most) {
			fmt.Fprintf(&out, "pages %d to %d\n", r.first, r.end-1)
		}
		return out.String()
	})
}

// TestPagesOf_AgreesWithMarkingEachByte compares with marking each byte's page.
func TestPagesOf_AgreesWithMarkingEachByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var ranges []Range
		want := map[uint32]bool{}
		for range rng.IntN(6) {
			off := rng.Int64N(8 * pageSize)
			r := Range{Off: off, End: off + []int64{0, 1, pageSize, rng.Int64N(3 * pageSize)}[rng.IntN(4)]}
			ranges = append(ranges, r)
			for p := r.Off / pageSize; p*pageSize < r.End && r.size() > 0; p++ {
				want[uint32(p)] = true
			}
		}
		got := pagesOf(ranges)
		require.True(t, slices.IsSorted(got))
		require.Len(t, got, len(want), "%v", ranges)
		for _, p := range got {
			require.True(t, want[p])
		}
	}
}
