package storeapi

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// TestLoserTree_EqualsSearch compares the tree with a search through all inputs, whose
// keys repeat within an input and between inputs, and now and then descend.
func TestLoserTree_EqualsSearch(t *testing.T) {
	rnd := rand.New(rand.NewSource(5))
	for round := range 2000 {
		inputs := make([][]string, 1+rnd.Intn(12))
		for i := range inputs {
			for range rnd.Intn(12) {
				inputs[i] = append(inputs[i], fmt.Sprintf("%02d", rnd.Intn(1+rnd.Intn(20))))
			}
			if round%4 > 0 {
				slices.Sort(inputs[i])
			}
			if round%2 > 0 {
				inputs[i] = slices.Compact(inputs[i])
			}
		}
		key := func(i int) (labels.Labels, bool) {
			if len(inputs[i]) == 0 {
				return labels.EmptyLabels(), false
			}
			return labels.FromStrings("a", inputs[i][0]), true
		}
		keys, alive := make([]labels.Labels, len(inputs)), make([]bool, len(inputs))
		for i := range inputs {
			keys[i], alive[i] = key(i)
		}
		tree := newLoserTree(keys, alive, Order{})
		for last := ""; ; {
			want := -1
			for i, in := range inputs {
				if len(in) > 0 && (want < 0 || in[0] < inputs[want][0]) {
					want = i
				}
			}
			got, ok := tree.winner()
			require.Equal(t, want >= 0, ok, "round %d", round)
			if !ok {
				break
			}
			require.Equal(t, want, got, "round %d", round)
			if last != "" {
				require.Equal(t, last == inputs[want][0], tree.same, "round %d", round)
			}
			last = inputs[want][0]
			inputs[want] = inputs[want][1:]
			next, alive := key(want)
			tree.replace(next, alive)
		}
	}
}
