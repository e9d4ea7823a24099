package storerpc

import (
	"fmt"
	"regexp/syntax"
	"strconv"

	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
)

// Bounds of one request. Work and memory grow with each of them, for every block
// and series that the request touches.
const (
	maxMatchers     = 1000
	maxMatcherBytes = 1 << 20
	// maxRegexpCost bounds the programs of all regular expressions, in
	// instructions of some 40 bytes each. A few bytes of repetition stand for a
	// thousand instructions.
	maxRegexpCost = 500_000
	// maxRequestLabels bounds each list of label names.
	maxRequestLabels = 10_000
	maxLabelName     = 64 << 10
)

// matcherBudget is the remaining budget of the matchers of one request.
type matcherBudget struct{ matchers, bytes, cost int }

func newMatcherBudget() *matcherBudget {
	return &matcherBudget{matchers: maxMatchers, bytes: maxMatcherBytes, cost: maxRegexpCost}
}

// take counts a matcher before it is compiled.
func (b *matcherBudget) take(name, value string, regexp bool) error {
	if b.matchers--; b.matchers < 0 {
		return fmt.Errorf("%w: the request has more than %d matchers", storeapi.ErrInvalid, maxMatchers)
	}
	if b.bytes -= len(name) + len(value); b.bytes < 0 {
		return fmt.Errorf("%w: the matchers of the request have more than %d bytes", storeapi.ErrInvalid, maxMatcherBytes)
	}
	if !regexp {
		return nil
	}
	re, err := syntax.Parse(value, syntax.Perl|syntax.DotNL)
	if err != nil {
		return fmt.Errorf("%w: matcher on %q: %w", storeapi.ErrInvalid, clip(name), err)
	}
	if b.cost -= regexpCost(re); b.cost < 0 {
		return fmt.Errorf("%w: the regular expressions of the request are too large: with repetitions written out they have more than %d characters", storeapi.ErrInvalid, maxRegexpCost)
	}
	return nil
}

// regexpCost is about the number of instructions of the compiled expression, at
// most a little above maxRegexpCost.
func regexpCost(re *syntax.Regexp) int {
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 8
	}
	for _, sub := range re.Sub {
		if n += regexpCost(sub); n > maxRegexpCost {
			break
		}
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Max, re.Min+1)
	}
	return min(n, maxRegexpCost+1)
}

// checkQueryRegexps counts the regular expressions of a PromQL query before the
// parser compiles them.
func checkQueryRegexps(query string) error {
	b := newMatcherBudget()
	lexer := parser.Lex(query)
	regexp := false
	for {
		var item parser.Item
		lexer.NextItem(&item)
		switch item.Typ {
		case parser.EOF, parser.ERROR:
			return nil // the parser reports the error
		case parser.EQL_REGEX, parser.NEQ_REGEX:
			regexp = true
			continue
		case parser.STRING:
			if !regexp {
				break
			}
			value := item.Val
			if text, err := strconv.Unquote(value); err == nil {
				value = text
			}
			if _, err := syntax.Parse(value, syntax.Perl|syntax.DotNL); err != nil {
				break
			}
			if err := b.take("", value, true); err != nil {
				return err
			}
		}
		regexp = false
	}
}

// checkNames bounds lists of label names.
func checkNames(lists ...[]string) error {
	for _, names := range lists {
		if len(names) > maxRequestLabels {
			return fmt.Errorf("%w: the request lists %d label names; the limit is %d", storeapi.ErrInvalid, len(names), maxRequestLabels)
		}
	}
	return nil
}

// checkSeriesRequest bounds the lists of a request for series besides its matchers.
func checkSeriesRequest(in *storepb.SeriesRequest) error {
	if n := len(in.GetAggregates()); n > maxRequestLabels {
		return fmt.Errorf("%w: the request lists %d aggregates", storeapi.ErrInvalid, n)
	}
	return checkNames(in.GetWithoutReplicaLabels(), in.GetShardInfo().GetLabels(),
		in.GetQueryHints().GetProjectionLabels(), in.GetQueryHints().GetGrouping().GetLabels())
}

// maxRequestBytes bounds a request that lists matchers or names, each of which
// takes many times more in memory than on the wire.
const maxRequestBytes = 4 << 20

// checkRequestSize bounds requests before they are decoded.
func checkRequestSize(v any, size int) error {
	switch v.(type) {
	case *storepb.SeriesRequest, *storepb.LabelNamesRequest, *storepb.LabelValuesRequest, *storepb.TSDBStatisticsRequest,
		*storepb.RulesRequest, *storepb.ExemplarsRequest, *storepb.MetricMetadataRequest, *storepb.TargetsRequest, *infopb.InfoRequest:
		if size > maxRequestBytes {
			return status.Error(codes.InvalidArgument, errorid.Text(fmt.Sprintf("the request has %d bytes; the limit is %d", size, maxRequestBytes), errorid.BodyTooLarge))
		}
	}
	return nil
}
