package query

import (
	"fmt"
	"math"
	"regexp/syntax"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/util/strutil"
)

// expressionLimits bound what one expression, or all selectors of one request
// together, may cost to parse, to print and to compile; 0 means no limit. They
// are checked before parsing where that is where the cost is.
type expressionLimits struct {
	// Bytes is the length of the text.
	Bytes int64
	// Depth is how deep the tree may be. A chain of binary operators is as deep
	// as it has operators.
	Depth int
	// Nodes is how many nodes the tree may have.
	Nodes int
	// Selectors and Matchers count those of the whole expression.
	Selectors, Matchers int
	// RegexpSize is the number of instructions to which all regular expressions
	// together compile.
	RegexpSize int
}

// boundedParser refuses expressions that cost too much. Its errors are the
// user's. It may be used concurrently.
type boundedParser struct {
	parser.Parser
	limits expressionLimits
}

// ParseExpr implements parser.Parser.
func (p boundedParser) ParseExpr(input string) (parser.Expr, error) {
	if err := p.limits.check(input); err != nil {
		return nil, err
	}
	expr, err := p.Parser.ParseExpr(input)
	if err != nil {
		return expr, err
	}
	return expr, p.limits.checkTree(expr)
}

// ParseMetric implements parser.Parser.
func (p boundedParser) ParseMetric(input string) (labels.Labels, error) {
	if err := p.limits.check(input); err != nil {
		return labels.EmptyLabels(), err
	}
	return p.Parser.ParseMetric(input)
}

// ParseMetricSelector implements parser.Parser.
func (p boundedParser) ParseMetricSelector(input string) ([]*labels.Matcher, error) {
	if err := p.limits.check(input); err != nil {
		return nil, err
	}
	return p.Parser.ParseMetricSelector(input)
}

// ParseMetricSelectors implements parser.Parser. The limits hold for all inputs
// together.
func (p boundedParser) ParseMetricSelectors(inputs []string) ([][]*labels.Matcher, error) {
	if n := p.limits.Selectors; n > 0 && len(inputs) > n {
		return nil, fmt.Errorf("%d selectors are more than the %d that one request may have (--query.max-selectors)", len(inputs), n)
	}
	if err := p.limits.check(inputs...); err != nil {
		return nil, err
	}
	return p.Parser.ParseMetricSelectors(inputs)
}

// check reads the inputs as the parser's lexer does, which costs time in
// proportion to their length, and no memory.
func (l expressionLimits) check(inputs ...string) error {
	var size int64
	for _, in := range inputs {
		size += int64(len(in))
	}
	if l.Bytes > 0 && size > l.Bytes {
		return fmt.Errorf("expression of %d bytes is longer than the limit of %d bytes (--query.max-expression-bytes)", size, l.Bytes)
	}
	s := scan{limits: l}
	for _, in := range inputs {
		if err := s.expression(in); err != nil {
			return err
		}
	}
	return nil
}

// checkTree checks the limits that need the parsed expression.
func (l expressionLimits) checkTree(expr parser.Expr) error {
	n, nodes := 0, 0
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if node != nil {
			nodes++
		}
		if _, ok := node.(*parser.VectorSelector); ok {
			n++
		}
		return nil
	})
	if l.Nodes > 0 && nodes > l.Nodes {
		return fmt.Errorf("expression has %d nodes, more than the limit of %d (--query.max-expression-nodes)", nodes, l.Nodes)
	}
	if l.Selectors > 0 && n > l.Selectors {
		return fmt.Errorf("expression has %d selectors, more than the limit of %d (--query.max-selectors)", n, l.Selectors)
	}
	return nil
}

// scan counts over the tokens of one or more expressions.
type scan struct {
	limits   expressionLimits
	matchers int
	regexps  int

	levels   []level
	inBraces bool
	// replacing says that a string may be the regular expression of
	// label_replace.
	replacing bool
	matching  bool
}

// level is what is between two brackets: operators since the last comma, and
// the depth of the deepest part so far.
type level struct{ operators, child, deepest int }

func (l level) depth() int { return max(l.deepest, l.operators+l.child+1) }

func (s *scan) expression(input string) error {
	s.levels, s.inBraces, s.replacing = append(s.levels[:0], level{}), false, false
	lexer := parser.Lex(input)
	for {
		var it parser.Item
		lexer.NextItem(&it)
		if it.Typ == parser.EOF || it.Typ == parser.ERROR {
			// The parser reports the error of the text.
			return nil
		}
		if err := s.token(it); err != nil {
			return err
		}
	}
}

// token adds a token to the counts of operators, depth, matchers and regular
// expressions, and fails when one of them exceeds its limit. A string counts as a
// regular expression after =~ or !~, and anywhere after label_replace, whose
// arguments are not known before the expression is parsed.
func (s *scan) token(it parser.Item) error {
	top := &s.levels[len(s.levels)-1]
	wasMatching := s.matching
	s.matching = false
	switch it.Typ {
	case parser.LEFT_BRACE:
		s.inBraces = true
	case parser.RIGHT_BRACE:
		s.inBraces = false
	case parser.LEFT_PAREN:
		s.levels = append(s.levels, level{})
	case parser.LEFT_BRACKET:
		top.operators++ // a subquery is a node around the expression before it
		s.levels = append(s.levels, level{})
	case parser.RIGHT_PAREN, parser.RIGHT_BRACKET:
		if n := len(s.levels); n > 1 {
			s.levels[n-2].child = max(s.levels[n-2].child, top.depth())
			s.levels = s.levels[:n-1]
		}
	case parser.COMMA:
		if !s.inBraces {
			*top = level{deepest: top.depth()}
		}
	case parser.IDENTIFIER, parser.METRIC_IDENTIFIER:
		s.replacing = s.replacing || it.Val == "label_replace"
	case parser.STRING:
		if wasMatching || s.replacing {
			if text, err := strutil.Unquote(it.Val); err == nil {
				s.regexps += regexpSize(text)
			}
		}
	default:
		if s.inBraces {
			s.matcher(it.Typ)
		} else if it.Typ.IsOperator() {
			top.operators++
		}
	}
	return s.exceeded()
}

func (s *scan) matcher(typ parser.ItemType) {
	switch typ {
	case parser.EQL_REGEX, parser.NEQ_REGEX:
		s.matching = true
		s.matchers++
	case parser.EQL, parser.NEQ:
		s.matchers++
	}
}

func (s *scan) exceeded() error {
	l := s.limits
	// Open brackets add to the depth before they are closed.
	depth := len(s.levels) - 1 + s.levels[len(s.levels)-1].depth()
	switch {
	case l.Depth > 0 && depth > l.Depth:
		return fmt.Errorf("expression is nested deeper than %d levels, where each operator of a chain is one (--query.max-expression-depth)", l.Depth)
	case l.Matchers > 0 && s.matchers > l.Matchers:
		return fmt.Errorf("expression has more than %d label matchers (--query.max-matchers)", l.Matchers)
	case l.RegexpSize > 0 && s.regexps > l.RegexpSize:
		return fmt.Errorf("regular expressions compile to more than %d instructions (--query.max-regexp-size); repeat less, or name fewer values", l.RegexpSize)
	}
	return nil
}

// regexpSize estimates the instructions to which the regular expression
// compiles. The size of an invalid one is 0.
func regexpSize(text string) int {
	re, err := syntax.Parse(text, syntax.Perl|syntax.DotNL)
	if err != nil {
		return 0
	}
	return instructions(re)
}

// instructions multiplies out repetitions, which the compiler unrolls.
func instructions(re *syntax.Regexp) int {
	const most = math.MaxInt32
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n = min(n+instructions(sub), most)
	}
	if re.Op == syntax.OpRepeat {
		n = min(n*max(re.Max, re.Min+1, 1), most)
	}
	return n
}

// checkRead holds a request of remote read to the limits of selectors.
func (l expressionLimits) checkRead(req *prompb.ReadRequest) error {
	if n := len(req.Queries); l.Selectors > 0 && n > l.Selectors {
		return fmt.Errorf("%d queries in one request are more than the limit of %d (--query.max-selectors)", n, l.Selectors)
	}
	s := scan{limits: l, levels: []level{{}}}
	for _, q := range req.Queries {
		s.matchers += len(q.Matchers)
		for _, m := range q.Matchers {
			if m.Type == prompb.LabelMatcher_RE || m.Type == prompb.LabelMatcher_NRE {
				s.regexps += regexpSize(m.Value)
			}
			if err := s.exceeded(); err != nil {
				return err
			}
		}
		// The handler of Prometheus calls these internal errors, which clients repeat.
		if _, err := remote.FromLabelMatchers(q.Matchers); err != nil {
			return fmt.Errorf("matchers of remote read: %w", err)
		}
	}
	return nil
}
