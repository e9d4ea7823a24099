package flags

import (
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

// SelectorRules reads relabelling rules that choose blocks or stores; what names these in
// errors. There are no rules when the flag is not given. Actions other than keep, drop and
// hashmod are an error, because they change labels.
func SelectorRules(p *PathOrContent, what string) ([]*relabel.Config, error) {
	content, err := p.Content()
	if err != nil || len(content) == 0 {
		return nil, err
	}
	var rules []*relabel.Config
	if err := DecodeYAML(content, &rules); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Source(), err)
	}
	for i, rule := range rules {
		if rule == nil {
			return nil, fmt.Errorf("%s: rule %d is empty", p.Source(), i+1)
		}
		switch rule.Action {
		case relabel.Keep, relabel.Drop, relabel.HashMod:
		default:
			return nil, fmt.Errorf("%s: rule %d: action %q cannot choose %s (use keep, drop or hashmod)", p.Source(), i+1, rule.Action, what)
		}
		if err := rule.Validate(model.UTF8Validation); err != nil {
			return nil, fmt.Errorf("%s: rule %d: %w", p.Source(), i+1, err)
		}
	}
	return rules, nil
}
