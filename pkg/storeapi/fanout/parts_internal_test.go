package fanout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestParts_FindsEachPart(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(most int) labels.Labels {
		b := labels.NewBuilder(labels.EmptyLabels())
		for range rnd.IntN(most) {
			b.Set(fmt.Sprint("l", rnd.IntN(4)), fmt.Sprint(rnd.IntN(2)))
		}
		return b.Labels()
	}
	found := 0
	for range 2000 {
		tsdbs := make([]storeapi.TSDBInfo, rnd.IntN(4))
		for i := range tsdbs {
			tsdbs[i].Labels = random(4)
		}
		ls := random(6)
		want := slices.ContainsFunc(tsdbs, func(in storeapi.TSDBInfo) bool {
			all := true
			in.Labels.Range(func(l labels.Label) { all = all && ls.Get(l.Name) == l.Value })
			return all
		})
		require.Equal(t, want, partsOf(tsdbs).partOf(ls), "%v in %v", tsdbs, ls)
		if want {
			found++
		}
	}
	require.NotZero(t, found)
	require.NotEqual(t, 2000, found)
}

// A label set is compared once with all TSDBs of the same label names, not with each: their
// numbers are multiplied otherwise, for each Info of a querier.
func TestParts_ComparesNamesOnce(t *testing.T) {
	var tsdbs []storeapi.TSDBInfo
	for i := range 5000 {
		tsdbs = append(tsdbs, storeapi.TSDBInfo{Labels: labels.FromStrings("cluster", fmt.Sprint(i), "tenant", fmt.Sprint(i%7))})
	}
	p := partsOf(tsdbs)
	require.Len(t, p, 1)
	require.Len(t, p[0].sets, 5000)
}
