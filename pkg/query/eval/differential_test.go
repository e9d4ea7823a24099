package eval

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// soakMinutes is how long the differential test runs: 0 for a fixed number of
// queries.
func soakMinutes(t testing.TB) time.Duration {
	text := os.Getenv("HINDSIGHT_FUZZ_MINUTES")
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	return time.Duration(n * float64(time.Minute))
}

// TestPrometheusEngine_Agrees evaluates random queries over random data with both
// engines.
func TestPrometheusEngine_Agrees(t *testing.T) {
	t.Parallel()
	const sets, queries = 12, 150
	ng := oracleEngine(t)
	soak := soakMinutes(t)
	start := time.Now()
	seed := uint64(1)
	if soak > 0 {
		seed = uint64(start.UnixNano())
	}
	t.Logf("first seed %d", seed)
	var count [differs + 1]int
	reasons := map[string]int{}
	for n := 0; n < sets || time.Since(start) < soak; n++ {
		// A test of its own: the storage of its data is closed before the next begins.
		t.Run(strconv.FormatUint(seed+uint64(n), 10), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed+uint64(n), 0))
			d := randomDataset(t, r)
			g := newQueryGenerator(r)
			for range queries {
				v, why := checkOne(t, ng, d, g.evaluation(1+r.IntN(4)))
				if count[v]++; v == fallback {
					reasons[reasonOf(why)]++
				}
			}
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("%d native, %d of them empty, %d fallback, %d failed, %d invalid, %d vary",
		count[native]+count[nothing], count[nothing], count[fallback], count[failed], count[invalid], count[varies])
	logReasons(t, reasons)
	require.Greater(t, count[native], (count[native]+count[fallback])/2, "share of queries that are evaluated here")
	require.Less(t, count[varies], count[native]/100, "queries that Prometheus's engine answers in several ways")
	require.Less(t, count[invalid], count[native]/2, "the generator makes valid queries")
}

// reasonOf returns the text of an error without what differs between queries.
func reasonOf(err error) string {
	return regexp.MustCompile(`\{.*\}|[0-9.]+`).ReplaceAllString(err.Error(), "")
}

// logReasons logs why queries were not evaluated here, the most frequent first.
func logReasons(t testing.TB, reasons map[string]int) {
	for _, why := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int { return reasons[b] - reasons[a] }) {
		t.Logf("%d times: %s", reasons[why], why)
	}
}

// FuzzPrometheusEngine_Agrees compares both engines for data and a query that come
// from seeds.
func FuzzPrometheusEngine_Agrees(f *testing.F) {
	ng := oracleEngine(f)
	for i := range uint64(4) {
		f.Add(i, i)
	}
	f.Fuzz(func(t *testing.T, data, query uint64) {
		d := randomDataset(t, rand.New(rand.NewPCG(data, 0)))
		r := rand.New(rand.NewPCG(query, 1))
		g := newQueryGenerator(r)
		for range 20 {
			checkOne(t, ng, d, g.evaluation(1+r.IntN(4)))
		}
	})
}

// checkOne compares both engines for one query. It fails the test with the smallest
// query and data that it finds to differ.
func checkOne(t testing.TB, ng *promql.Engine, d *dataset, e evaluation) (verdict, error) {
	v, err := compareEngines(ng, d, e)
	if v == differs {
		small, data := shrink(ng, d, e)
		_, why := compareEngines(ng, data, small)
		if why == nil {
			small, data, why = e, d, err
		}
		text := data.loadText()
		if len(text) > 20_000 {
			text = text[:20_000] + "..."
		}
		t.Errorf("%s\n%s\n%v\nfirst seen as %s", text, small, why, e)
	}
	return v, err
}

// shrink returns a smaller query and less data for which the engines differ.
func shrink(ng *promql.Engine, d *dataset, e evaluation) (evaluation, *dataset) {
	tries := 600
	fails := func(e evaluation, d *dataset) bool {
		tries--
		v, _ := compareEngines(ng, d, e)
		return v == differs
	}
	e = shrinkQuery(e, func(e evaluation) bool { return tries > 0 && fails(e, d) })
	if one := (evaluation{expr: e.expr, start: e.start, end: e.start, lookback: e.lookback}); e.step != 0 && fails(one, d) {
		e = one
	}
	for e.step != 0 && e.end.Sub(e.start) >= 2*e.step && tries > 0 {
		half := e
		half.end = e.start.Add(e.end.Sub(e.start) / 2).Truncate(e.step)
		if !fails(half, d) {
			break
		}
		e = half
	}
	for i := len(d.series) - 1; i >= 0 && tries > 0; i-- {
		if less := d.without(i, 0, len(d.series[i].samples.T)); fails(e, less) {
			d = less
		}
	}
	for i := len(d.series) - 1; i >= 0; i-- {
		for size := len(d.series[i].samples.T) / 2; size > 0; size /= 2 {
			for from := 0; i < len(d.series) && from+size < len(d.series[i].samples.T) && tries > 0; {
				if less := d.without(i, from, from+size); fails(e, less) {
					d = less
				} else {
					from += size
				}
			}
		}
	}
	return e, d
}

// shrinkQuery replaces the expression by parts of it while fails holds.
func shrinkQuery(e evaluation, fails func(evaluation) bool) evaluation {
	p := parser.NewParser(testParserOptions())
	for again := true; again; {
		again = false
		root, err := p.ParseExpr(e.expr)
		if err != nil {
			return e
		}
		for _, text := range smaller(root) {
			s := e
			if s.expr = text; len(text) < len(e.expr) && fails(s) {
				e, again = s, true
				break
			}
		}
	}
	return e
}

// smaller returns expressions with one node less than root.
func smaller(root parser.Expr) []string {
	var list []string
	// A child takes the place of root.
	for c := range parser.ChildrenIter(root) {
		if x, ok := c.(parser.Expr); ok && (x.Type() == parser.ValueTypeVector || x.Type() == parser.ValueTypeScalar) {
			list = append(list, x.String())
		}
	}
	// Or something becomes smaller inside of root.
	replace := func(at *parser.Expr) {
		if *at == nil {
			return
		}
		was := *at
		for _, text := range smaller(was) {
			x, err := parser.NewParser(testParserOptions()).ParseExpr(text)
			if err != nil || x.Type() != was.Type() {
				continue
			}
			*at = x
			list = append(list, root.String())
		}
		*at = was
	}
	switch n := root.(type) {
	case *parser.ParenExpr:
		replace(&n.Expr)
	case *parser.UnaryExpr:
		replace(&n.Expr)
	case *parser.AggregateExpr:
		replace(&n.Expr)
		replace(&n.Param)
	case *parser.SubqueryExpr:
		replace(&n.Expr)
	case *parser.BinaryExpr:
		replace(&n.LHS)
		replace(&n.RHS)
	case *parser.Call:
		for i := range n.Args {
			replace(&n.Args[i])
		}
	case *parser.VectorSelector:
		list = append(list, smallerSelector(n)...)
	case *parser.MatrixSelector:
		vs := n.VectorSelector.(*parser.VectorSelector)
		for _, s := range smallerSelector(vs) {
			list = append(list, fmt.Sprintf("%s[%s]", s, n.Range))
		}
	}
	return list
}

// smallerSelector returns the selector without its modifiers.
func smallerSelector(n *parser.VectorSelector) []string {
	if n.OriginalOffset == 0 && n.Timestamp == nil && n.StartOrEnd == 0 {
		return nil
	}
	plain := *n
	plain.OriginalOffset, plain.Timestamp, plain.StartOrEnd = 0, nil, 0
	plain.OriginalOffsetExpr = nil
	return []string{plain.String()}
}
