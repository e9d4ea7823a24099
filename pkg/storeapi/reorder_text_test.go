package storeapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// TestReorder_Text runs the files in testdata/reorder; -rewrite updates them.
//
//	reorder external=(name=value, ...) drop=(name, ...) own=(name, ...) no-prefixes
//
// reads the label sets of the input and prints those of the answer, each with the
// number of series that were read before it was returned.
func TestReorder_Text(t *testing.T) {
	datadriven.Walk(t, "testdata/reorder", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var series []Series
			for line := range strings.Lines(d.Input) {
				ls, err := parser.NewParser(parser.Options{}).ParseMetric(strings.TrimSpace(line))
				require.NoError(t, err, line)
				series = append(series, Series{Labels: ls})
			}
			require.True(t, slices.IsSortedFunc(series, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) }), "the input is not in order")
			return runReorder(t, d, series)
		})
	})
}

func runReorder(t *testing.T, d *datadriven.TestData, series []Series) string {
	var r Reorder
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "external":
			var pairs []string
			for _, v := range arg.Vals {
				name, value, ok := strings.Cut(v, "=")
				require.True(t, ok, v)
				pairs = append(pairs, name, value)
			}
			r.External = labels.FromStrings(pairs...)
		case "drop":
			r.Drop = arg.Vals
		case "own":
			r.Own = func(name string) bool { return slices.Contains(arg.Vals, name) }
		case "no-prefixes":
			r.NoPrefixes = true
		default:
			t.Fatalf("unknown argument %q", arg.Key)
		}
	}
	in := &countingSet{SeriesSet: NewSliceSet(series)}
	set := r.Apply(in)
	var out strings.Builder
	for set.Next() {
		fmt.Fprintf(&out, "%d read: %s\n", in.read, set.At().Labels)
	}
	require.NoError(t, set.Err())
	for _, w := range set.Warnings() {
		fmt.Fprintf(&out, "warning: %s\n", w.Text)
	}
	return out.String()
}
