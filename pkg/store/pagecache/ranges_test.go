package pagecache

import (
	"fmt"
	"math/rand/v2"
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
		d.ScanArgs(t, "request", &gap)
		d.ScanArgs(t, "most", &most)
		var pages []uint32
		for _, w := range strings.Fields(d.Input) {
			var p uint32
			_, err := fmt.Sscan(w, &p)
			require.NoError(t, err)
			pages = append(pages, p)
		}
		var out strings.Builder
		for _, r := range plan(pages, costs{request: gap, most: most}) {
			fmt.Fprintf(&out, "pages %d to %d\n", r.first, r.end-1)
		}
		return out.String()
	})
}

// TestRuns_AgreeWithMarkingEachByte compares with marking each byte's page.
func TestRuns_AgreeWithMarkingEachByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() (ranges []Range, want map[uint32]bool) {
		want = map[uint32]bool{}
		for range rng.IntN(6) {
			off := rng.Int64N(8 * pageSize)
			r := Range{Off: off, End: off + []int64{0, 1, pageSize, rng.Int64N(3 * pageSize)}[rng.IntN(4)]}
			ranges = append(ranges, r)
			for p := r.Off / pageSize; p*pageSize < r.End && r.size() > 0; p++ {
				want[uint32(p)] = true
			}
		}
		return ranges, want
	}
	check := func(runs []run, want map[uint32]bool) {
		t.Helper()
		n := 0
		for i, r := range runs {
			require.Less(t, r.first, r.end)
			require.True(t, i == 0 || runs[i-1].end <= r.first, "%v", runs)
			for p := r.first; p < r.end; p++ {
				require.True(t, want[p], "%v", runs)
				n++
			}
		}
		require.Len(t, want, n, "%v", runs)
	}
	for range 3000 {
		a, inA := random()
		b, inB := random()
		runs := runsOf(a)
		check(runs, inA)
		for p := range inB {
			delete(inA, p)
		}
		check(subtract(runs, runsOf(b)), inA)
	}
}
