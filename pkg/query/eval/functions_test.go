package eval

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// TestFunctions_AllAreKnown compiles each function of PromQL. Those that are left to
// Prometheus's engine are listed here with the reason.
func TestFunctions_AllAreKnown(t *testing.T) {
	left := map[string]string{
		"info":            "selects series by the labels of others",
		"start_timestamp": "the seam with storage has no start timestamps",
	}
	ng := oracleEngine(t)
	argument := map[parser.ValueType]string{
		parser.ValueTypeMatrix: "m[5m]", parser.ValueTypeVector: "m", parser.ValueTypeScalar: "0.5", parser.ValueTypeString: `"l"`,
	}
	special := map[string]string{"info": "info(m, {l=\"v\"})"}
	for _, name := range slices.Sorted(maps.Keys(parser.Functions)) {
		f := parser.Functions[name]
		var args []string
		for _, a := range f.ArgTypes {
			args = append(args, argument[a])
		}
		expr := cmp.Or(special[name], name+"("+strings.Join(args, ", ")+")")
		e := evaluation{expr: expr, start: time.Unix(0, 0), end: time.Unix(60, 0), step: time.Minute}
		q, err := e.query(ng, &dataset{})
		require.NoError(t, err, e.expr)
		_, err = Compile(q.Statement().(*parser.EvalStmt), testOptions())
		require.Equal(t, left[name] != "", errors.Is(err, ErrUnsupported), "%s: %v", e.expr, err)
		q.Close()
	}
	require.Subset(t, slices.Collect(maps.Keys(promql.FunctionCalls)), slices.Collect(maps.Keys(left)))
}
