package eval

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// queryGenerator makes random expressions of a wanted type. The choices are those
// of the language: each function, operator and modifier can appear.
type queryGenerator struct {
	r     *rand.Rand
	calls map[parser.ValueType][]*parser.Function
	// ranges are the functions of a range vector.
	ranges []*parser.Function
}

func newQueryGenerator(r *rand.Rand) *queryGenerator {
	g := &queryGenerator{r: r, calls: map[parser.ValueType][]*parser.Function{}}
	for _, name := range slices.Sorted(maps.Keys(parser.Functions)) {
		f := parser.Functions[name]
		if slices.Contains(f.ArgTypes, parser.ValueTypeMatrix) {
			g.ranges = append(g.ranges, f)
		} else {
			g.calls[f.ReturnType] = append(g.calls[f.ReturnType], f)
		}
	}
	return g
}

func (g *queryGenerator) one(list ...string) string { return list[g.r.IntN(len(list))] }

// rarely is true once in n times.
func (g *queryGenerator) rarely(n int) bool { return g.r.IntN(n) == 0 }

// evaluation returns a random query. d is its depth.
func (g *queryGenerator) evaluation(d int) evaluation {
	e := evaluation{start: time.UnixMilli(g.r.Int64N(dataSpan)).UTC()}
	if g.rarely(2) {
		// Dashboards and rules ask at multiples of their step, where windows of subqueries
		// begin and end, too.
		e.start = e.start.Truncate(time.Minute)
	}
	e.end = e.start
	if !g.rarely(3) {
		e.step = []time.Duration{7 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute}[g.r.IntN(5)]
		e.end = e.start.Add(e.step*time.Duration(g.r.IntN(30)) + time.Duration(g.r.IntN(2000))*time.Millisecond)
	}
	if g.rarely(4) {
		e.lookback = []time.Duration{time.Minute, 20 * time.Second, 10 * time.Minute}[g.r.IntN(3)]
	}
	if e.expr = g.vector(d); g.rarely(12) {
		e.expr = g.scalar(d)
	}
	return e
}

func (g *queryGenerator) selector() string {
	s := g.one("c_total", "c_total", "g", "g", "info", "nh", "nh", "h_bucket", `{__name__=~"c_total|g"}`, `{job="j0"}`)
	if !strings.HasPrefix(s, "{") && g.rarely(2) {
		s += g.one(`{job="j0"}`, `{job!="j0"}`, `{inst=~"i[01]"}`, `{mode=""}`, `{mode="x"}`, `{inst="none"}`, `{job="j1",inst="i0"}`)
	}
	return s
}

// modifiers returns offset and @ for a selector or a subquery.
func (g *queryGenerator) modifiers() string {
	s := ""
	if g.rarely(6) {
		s += g.one(" offset 1m", " offset 7s", " offset -2m", " offset 5m", " offset (1m + 1)", " offset -step()")
	}
	if g.rarely(8) {
		s += g.one(" @ start()", " @ end()", " @ 600", " @ 1234.567", " @ 0")
	}
	return s
}

func (g *queryGenerator) rangeOf(d int) string {
	rng := g.one("15s", "1m", "5m", "5m", "10m", "1s")
	if g.rarely(12) {
		rng = g.one("1m + 15s", "max(1m, step())", "min(range(), 10m) + 1s", "step() * 2 + 1", "2m / 3", "-(-90)")
	}
	if d <= 0 || !g.rarely(4) {
		return g.selector() + "[" + rng + "]" + g.extended() + g.modifiers()
	}
	return "(" + g.vector(d-1) + ")[" + rng + ":" + g.one("", "15s", "40s", "1m", "3s", "step() + 7", "20 * 3") + "]" + g.modifiers()
}

// extended returns a modifier that looks at the samples around a range, rarely.
func (g *queryGenerator) extended() string {
	if g.rarely(15) {
		return g.one(" anchored", " smoothed")
	}
	return ""
}

func (g *queryGenerator) vector(d int) string {
	if d <= 0 {
		if g.rarely(10) {
			return "vector(" + g.scalar(0) + ")"
		}
		if g.rarely(40) {
			return g.selector() + " smoothed" + g.modifiers()
		}
		return g.selector() + g.modifiers()
	}
	switch g.r.IntN(10) {
	case 0, 1:
		return g.call(g.ranges[g.r.IntN(len(g.ranges))], d-1)
	case 2, 3:
		return g.aggregation(d - 1)
	case 4:
		list := g.calls[parser.ValueTypeVector]
		return g.call(list[g.r.IntN(len(list))], d-1)
	case 5:
		return g.dashboard()
	case 6:
		if g.rarely(4) {
			return "-(" + g.vector(d-1) + ")"
		}
		return g.withScalar(d - 1)
	case 7, 8:
		return g.binary(d - 1)
	default:
		return "(" + g.vector(d-1) + ")"
	}
}

func (g *queryGenerator) scalar(d int) string {
	if d <= 0 || g.rarely(2) {
		return g.one("1", "2", "0.5", "-1", "0", "NaN", "Inf", "0.99", "3", "1e3", "time()", "pi()", "step()", "scalar(g)")
	}
	if g.rarely(2) {
		op := g.operator()
		if strings.ContainsAny(op, "=<>") && op != "</" && op != ">/" {
			op += " bool"
		}
		return "(" + g.scalar(d-1) + " " + op + " " + g.scalar(d-1) + ")"
	}
	list := g.calls[parser.ValueTypeScalar]
	return g.call(list[g.r.IntN(len(list))], d-1)
}

func (g *queryGenerator) operator() string {
	if g.rarely(20) {
		return g.one("</", ">/")
	}
	return g.one("+", "+", "-", "-", "*", "*", "/", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=")
}

func (g *queryGenerator) withScalar(d int) string {
	op := g.operator()
	if strings.ContainsAny(op, "=<>") && !strings.Contains(op, "</") && !strings.Contains(op, ">/") && g.rarely(2) {
		op += " bool"
	}
	a, b := g.vector(d), g.scalar(d)
	if g.rarely(2) {
		a, b = b, a
	}
	return "(" + a + " " + op + " " + b + ")"
}

func (g *queryGenerator) matching() string {
	return g.one("on", "ignoring") + "(" + g.labelList() + ")"
}

func (g *queryGenerator) labelList() string {
	return g.one("job", "inst", "job, inst", "job, inst, mode", "mode", "", "version", "le", "job, inst, version, mode, le", "__name__")
}

func (g *queryGenerator) binary(d int) string {
	a, b := g.vector(d), g.vector(d)
	if g.rarely(4) {
		b = a // the same labels on both sides
	}
	if g.rarely(3) {
		op := g.one("and", "or", "unless")
		if g.rarely(2) {
			op += " " + g.matching()
		}
		return "(" + a + " " + op + " " + b + ")"
	}
	op := g.operator()
	if strings.ContainsAny(op, "=<>") && op != "</" && op != ">/" && g.rarely(2) {
		op += " bool"
	}
	if g.rarely(2) {
		op += " " + g.matching()
		if g.rarely(2) {
			op += " " + g.one("group_left", "group_right") + g.one("", "()", "(version)", "(mode)", "(version, mode)", "(foo)")
		}
		if g.rarely(5) {
			op += " " + g.one("fill(0)", "fill_left(1)", "fill_right(2)", "fill_left(1) fill_right(NaN)")
		}
	}
	return "(" + a + " " + op + " " + b + ")"
}

func (g *queryGenerator) aggregation(d int) string {
	op := g.one("sum", "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio")
	by := ""
	if g.rarely(2) {
		by = " " + g.one("by", "without") + " (" + g.labelList() + ") "
	}
	param := ""
	switch op {
	case "topk", "bottomk", "limitk":
		param = g.one("1", "2", "3", "0", "100", "time() % 4") + ", "
	case "quantile":
		param = g.one("0.5", "0.99", "1", "0", "-1", "2", "NaN", "scalar(g{job=\"j0\"})") + ", "
	case "limit_ratio":
		param = g.one("0.5", "-0.5", "1", "0") + ", "
	case "count_values":
		param = `"` + g.one("value", "job") + `", `
	}
	return op + by + "(" + param + g.vector(d) + ")"
}

// dashboard returns one of the shapes of which dashboards are made.
func (g *queryGenerator) dashboard() string {
	return g.one(
		`sum by (job) (rate(c_total[5m]))`,
		`histogram_quantile(0.9, sum by (le, job) (rate(h_bucket[5m])))`,
		`histogram_quantile(0.9, h_bucket)`,
		`histogram_quantile(0.5, rate(nh[5m]))`,
		`histogram_fraction(0, 2, sum by (job) (rate(nh[5m])))`,
		`rate(c_total[5m]) / on (job, inst) group_left (version) info`,
		`rate(c_total[1m]) * on (job, inst) group_left (version) max by (job, inst, version) (info)`,
		`sum by (job) (c_total) / ignoring (inst) sum by (job) (g)`,
		`max_over_time(rate(c_total[1m])[10m:30s])`,
		`avg_over_time((sum by (job) (g))[5m:1m])`,
		`topk(2, rate(c_total[5m]))`,
		`g > 0 or vector(0)`,
		`c_total - c_total offset 5m`,
		`absent(g{job="j0",inst="i7"})`,
		`count(g) by (job) > bool 1`,
		`label_replace(g, "inst", "$1", "job", "j(.)")`,
		`clamp_max(g, 3) and on (job) c_total`,
	)
}

// call returns a call with random arguments.
func (g *queryGenerator) call(f *parser.Function, d int) string {
	switch f.Name {
	case "label_replace":
		return fmt.Sprintf(`label_replace(%s, "%s", "%s", "%s", "%s")`, g.vector(d), g.one("new", "job", "inst", "__name__"), g.one("x-$1", "$1", ""), g.one("job", "inst", "__name__"), g.one("(.*)", "j(0)", "(i).", ".*"))
	case "label_join":
		return fmt.Sprintf(`label_join(%s, "%s", "-", "job", "%s")`, g.vector(d), g.one("new", "job", "__name__"), g.one("inst", "mode"))
	case "sort_by_label", "sort_by_label_desc":
		return fmt.Sprintf(`%s(%s, "%s", "job")`, f.Name, g.vector(d), g.one("inst", "mode"))
	case "histogram_quantiles":
		return fmt.Sprintf(`histogram_quantiles(%s, "q", %s, 0.25)`, g.vector(d), g.one("0.5", "0.9", "2", "NaN"))
	case "info":
		return "info(" + g.vector(d) + g.one("", "", `, {version=~".+"}`, `, {__name__=~"info|g"}`, `, {__name__="info", version="v1"}`, `, {version=""}`) + ")"
	}
	n := len(f.ArgTypes)
	switch {
	case f.Variadic > 0:
		n -= g.r.IntN(f.Variadic + 1)
	case f.Variadic < 0:
		n = max(n-1, 1)
	}
	args := make([]string, n)
	for i := range args {
		switch f.ArgTypes[min(i, len(f.ArgTypes)-1)] {
		case parser.ValueTypeMatrix:
			args[i] = g.rangeOf(d)
		case parser.ValueTypeVector:
			args[i] = g.vector(d)
		default:
			args[i] = g.scalar(min(d, 1))
		}
	}
	return f.Name + "(" + strings.Join(args, ", ") + ")"
}
