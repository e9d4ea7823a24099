package query

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

var updateTable = flag.Bool("update-downsampled-table", false, "write the table of measured differences into docs/downsampled-data.md")

const (
	tableFile  = "../../docs/downsampled-data.md"
	tableBegin = "<!-- measured: written by go test ./pkg/query -run DownsampledTable -update-downsampled-table -->\n"
	tableEnd   = "<!-- end of measured -->\n"
)

// valueExpressions are one expression for each function of the values of an instant
// vector, over a series whose average is its value.
func valueExpressions() []expectation {
	special := map[string]string{
		"acosh": "acosh(const + 1)", "clamp": "clamp(const, 0, 1)", "clamp_max": "clamp_max(const, 0.05)", "clamp_min": "clamp_min(const, 0.5)",
		"round": "round(const, 0.03)", "scalar": "scalar(const) + sum(const)",
	}
	var out []expectation
	for _, f := range aggr.Functions() {
		if parser.Functions[f.Name] == nil || f.Name == "timestamp" || f.Bound != aggr.OneWindow || f.Windows > 0 || f.Through || strings.HasPrefix(f.Name, "histogram_") {
			continue
		}
		expr := special[f.Name]
		if expr == "" {
			expr = f.Name + "(const)"
		}
		out = append(out, expectation{expr, exactly, nil})
	}
	return out
}

// farthest is the largest difference of two answers, +Inf if one has points that the
// other lacks.
func farthest(want, got promql.Matrix) float64 {
	if len(want) != len(got) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range want {
		if len(want[i].Floats) != len(got[i].Floats) {
			return math.Inf(1)
		}
		for k, p := range want[i].Floats {
			d := math.Abs(p.F - got[i].Floats[k].F)
			if math.IsNaN(d) {
				return math.Inf(1)
			}
			worst = max(worst, d)
		}
	}
	return worst
}

// sized is the largest absolute value of an answer.
func sized(m promql.Matrix) float64 {
	v := 0.0
	for _, s := range m {
		for _, p := range s.Floats {
			v = max(v, math.Abs(p.F))
		}
	}
	return v
}

func shortNumber(v float64) string {
	if v < 1e-5 {
		return "0"
	}
	return fmt.Sprintf("%.3g", v)
}

// The table of docs/downsampled-data.md has each expression with its largest value over
// raw data, and its largest difference from that over data of 5m and 1h next to the
// bound, for every function that has a bound.
func TestDownsampledTable_IsMeasured(t *testing.T) {
	t.Parallel()
	e, l := testEngine(t), world(t)
	raw := asked{kept: everyDay(true, true, true)}
	m5, h1 := asked{everyDay(true, true, true), aggr.Resolution5m, false}, asked{everyDay(true, true, true), aggr.Resolution1h, false}
	var b strings.Builder
	b.WriteString("| query | largest value | 5m: measured | 5m: bound | 1h: measured | 1h: bound |\n|---|---|---|---|---|---|\n")
	var exact []string
	ofValues := valueExpressions()
	require.Greater(t, len(ofValues), 30)
	for i, x := range slices.Concat(expectations(), ofValues) {
		want, _ := ask(t, e, l, raw, x.expr)
		at5, _ := ask(t, e, l, m5, x.expr)
		at1, _ := ask(t, e, l, h1, x.expr)
		d5, d1 := farthest(want, at5), farthest(want, at1)
		require.LessOrEqual(t, d5, x.off(5)+1e-9, x.expr)
		require.LessOrEqual(t, d1, x.off(60)+1e-9, x.expr)
		switch {
		case i >= len(expectations()):
			exact = append(exact, "`"+x.expr+"`")
		default:
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", strings.ReplaceAll(x.expr, "|", `\|`), shortNumber(sized(want)),
				shortNumber(d5), shortNumber(x.off(5)), shortNumber(d1), shortNumber(x.off(60)))
		}
	}
	fmt.Fprintf(&b, "\nFunctions of the values of an instant vector differ as their argument does. Over a constant series all of them are exact: %s.\n", strings.Join(exact, ", "))

	doc, err := os.ReadFile(tableFile)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(doc), tableBegin)
	require.True(t, ok)
	old, after, ok := strings.Cut(rest, tableEnd)
	require.True(t, ok)
	if *updateTable {
		require.NoError(t, os.WriteFile(tableFile, []byte(before+tableBegin+b.String()+tableEnd+after), 0o600))
		return
	}
	require.Equal(t, old, b.String(), "run the command in the document")
}
