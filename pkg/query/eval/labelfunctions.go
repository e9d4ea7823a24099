package eval

import (
	"context"
	"slices"
	"strings"

	"github.com/grafana/regexp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// literals returns the values of arguments that are strings.
func literals(args parser.Expressions) ([]string, error) {
	var list []string
	for _, a := range args {
		s, ok := a.(*parser.StringLiteral)
		if !ok {
			return nil, unsupported("argument %T for a string", a)
		}
		list = append(list, s.Val)
	}
	return list, nil
}

// relabelled compiles a function that changes the label dst of each series. f
// returns false where a series stays as it is.
func (c *compiler) relabelled(e parser.Expr, dst string, f func(labels.Labels) (string, bool)) (plan, error) {
	if !model.UTF8Validation.IsValidLabelName(dst) {
		return nil, unsupported("label name %q", dst)
	}
	in, err := c.vector(e)
	if err != nil {
		return nil, err
	}
	p := &chainPlan{child: in, fn: rowMap{labels: true, make: func(context.Context, *scope) (rowFunc, error) {
		return func(_ *worker, r *row) error {
			// Any two series may have equal labels from here on.
			r.check = true
			if v, ok := f(r.labels); ok {
				r.labels = labels.NewBuilder(r.labels).Set(dst, v).Labels()
			}
			return nil
		}, nil
	}}}
	if slices.Contains(metadataLabels(), dst) {
		return named{p}, nil
	}
	return p, nil
}

// named is a plan that may give a name to series without one.
type named struct{ plan }

func (named) nameless() bool { return false }

func (c *compiler) labelReplace(e *parser.Call) (plan, error) {
	args, err := literals(e.Args[1:])
	if err != nil {
		return nil, err
	}
	dst, replacement, src := args[0], args[1], args[2]
	re, err := regexp.Compile("^(?s:" + args[3] + ")$")
	if err != nil {
		return nil, unsupported("regular expression of label_replace: %v", err)
	}
	return c.relabelled(e.Args[0], dst, func(ls labels.Labels) (string, bool) {
		v := ls.Get(src)
		at := re.FindStringSubmatchIndex(v)
		if at == nil {
			return "", false
		}
		return string(re.ExpandString(nil, replacement, v, at)), true
	})
}

func (c *compiler) labelJoin(e *parser.Call) (plan, error) {
	args, err := literals(e.Args[1:])
	if err != nil {
		return nil, err
	}
	dst, separator, sources := args[0], args[1], args[2:]
	for _, src := range sources {
		if !model.UTF8Validation.IsValidLabelName(src) {
			return nil, unsupported("label name %q", src)
		}
	}
	return c.relabelled(e.Args[0], dst, func(ls labels.Labels) (string, bool) {
		vs := make([]string, len(sources))
		for i, src := range sources {
			vs[i] = ls.Get(src)
		}
		return strings.Join(vs, separator), true
	})
}
