package dedup

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// TestReplicaLabels_Texts runs the cases in testdata/replicalabels. A line of the input
// is one label set that a store announces, a line of the result a replica label and the
// two label sets that show it. Each case is run in several orders.
func TestReplicaLabels_Texts(t *testing.T) {
	datadriven.RunTest(t, "testdata/replicalabels/cases.txt", func(t *testing.T, d *datadriven.TestData) string {
		var sets []labels.Labels
		for line := range strings.Lines(d.Input) {
			ls, err := parser.NewParser(parser.Options{}).ParseMetric(strings.TrimSpace(line))
			require.NoError(t, err)
			sets = append(sets, ls)
		}
		found := DetectReplicaLabels(sets)
		r := rand.New(rand.NewSource(1))
		for range 20 {
			other := slices.Concat(sets, sets[:r.Intn(len(sets)+1)])
			r.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
			require.Equal(t, found, DetectReplicaLabels(other))
		}
		var out strings.Builder
		for _, l := range found {
			fmt.Fprintf(&out, "%s: %s %s\n", l.Name, l.Evidence[0], l.Evidence[1])
		}
		return out.String()
	})
}
