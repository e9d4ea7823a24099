package query

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

func testParser(t testing.TB) boundedParser {
	cfg, err := parseConfig()
	require.NoError(t, err)
	return boundedParser{Parser: parser.NewParser(parser.Options{}), limits: cfg.Limits.expressions()}
}

func TestBoundedParser_RefusesBeforeParsing(t *testing.T) {
	p := testParser(t)
	large := strings.Repeat("[a-z]{900}", 800)
	for _, c := range []struct{ name, expr, want string }{
		{"length", strings.Repeat("-", 10<<20), "--query.max-expression-bytes"},
		{"parentheses", strings.Repeat("(", 20_000) + "1" + strings.Repeat(")", 20_000), "--query.max-expression-depth"},
		{"terms", strings.Repeat("1+", 20_000) + "1", "--query.max-expression-depth"},
		{"signs", strings.Repeat("-", 20_000) + "1", "--query.max-expression-depth"},
		{"calls", strings.Repeat("abs(", 5_000) + "x" + strings.Repeat(")", 5_000), "--query.max-expression-depth"},
		{"mixed", strings.Repeat("1+(2*", 600) + "1" + strings.Repeat(")", 600), "--query.max-expression-depth"},
		{"subqueries", "x" + strings.Repeat("[1m:1s]", 2_000), "--query.max-expression-depth"},
		{"matchers", "{" + strings.Repeat(`a="b",`, 10_000) + "}", "--query.max-matchers"},
		{"regular expression", `{a=~"` + large + `"}`, "--query.max-regexp-size"},
		{"regular expressions", strings.Repeat(`x{a=~"`+strings.Repeat("(x{900})", 20)+`"} or `, 30) + "x", "--query.max-regexp-size"},
		{"label_replace", `label_replace(x,"a","b","c","` + large + `")`, "--query.max-regexp-size"},
		{"selectors", "(" + tree(11) + ")", "--query.max-selectors"},
	} {
		_, err := p.ParseExpr(c.expr)
		require.ErrorContains(t, err, c.want, c.name)
		require.Less(t, len(err.Error()), 300, "%s: the message must not repeat the expression", c.name)
	}
	_, err := p.ParseMetricSelectors(slicesOf("up", 2_000))
	require.ErrorContains(t, err, "--query.max-selectors")
	_, err = p.ParseMetricSelectors(slicesOf("{"+strings.Repeat(`a="b",`, 500)+"}", 20))
	require.ErrorContains(t, err, "--query.max-matchers", "all selectors of a request count together")
	_, err = p.ParseMetricSelector("{" + strings.Repeat(`a="b",`, 10_000) + "}")
	require.ErrorContains(t, err, "--query.max-matchers")
	_, err = p.ParseMetric(strings.Repeat("a", 1<<20))
	require.ErrorContains(t, err, "--query.max-expression-bytes")
}

// tree is a balanced sum of 2^n selectors, which is not deep.
func tree(n int) string {
	if n == 0 {
		return "x"
	}
	return "(" + tree(n-1) + "+" + tree(n-1) + ")"
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestBoundedParser_AcceptsWhatPeopleWrite(t *testing.T) {
	p := testParser(t)
	var values []string
	for range 1000 {
		values = append(values, "node-exporter-10-20-30-40:9100")
	}
	for _, expr := range []string{
		"up", `sum by (a) (rate(x{a=~"b.*",c!="d"}[5m])) / on (a) group_left sum(y)`,
		`x{instance=~"` + strings.Join(values, "|") + `"}`,
		strings.Repeat(`x{a="1"} or `, 400) + "x",
		`label_replace(x, "a", "$1", "b", "(.*)-[0-9]{1,3}")`,
		`x{a="` + strings.Repeat("(y{900})", 100) + `"}`, // no regular expression
	} {
		_, err := p.ParseExpr(expr)
		require.NoError(t, err)
	}
	_, err := p.ParseExpr("sum(")
	require.ErrorContains(t, err, "parse error")
}

func TestExpressionLimits_RemoteRead(t *testing.T) {
	l := testParser(t).limits
	many := &prompb.Query{}
	for range 6_000 {
		many.Matchers = append(many.Matchers, &prompb.LabelMatcher{Name: "a", Value: "b"})
	}
	require.ErrorContains(t, l.checkRead(&prompb.ReadRequest{Queries: []*prompb.Query{many}}), "--query.max-matchers")
	re := &prompb.Query{Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_RE, Name: "a", Value: strings.Repeat("[a-z]{900}", 800)}}}
	require.ErrorContains(t, l.checkRead(&prompb.ReadRequest{Queries: []*prompb.Query{re}}), "--query.max-regexp-size")
	require.NoError(t, l.checkRead(&prompb.ReadRequest{Queries: []*prompb.Query{{Matchers: many.Matchers[:3]}}}))
}
