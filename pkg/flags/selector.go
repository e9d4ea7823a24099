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
	return readRules(p, func(content []byte) ([]*relabel.Config, error) { return ParseSelectorRules(content, what) })
}

// RelabelRules reads relabelling rules of any action. There are none when the flag is not
// given.
func RelabelRules(p *PathOrContent) ([]*relabel.Config, error) {
	return readRules(p, ParseRelabelRules)
}

func readRules(p *PathOrContent, parse func([]byte) ([]*relabel.Config, error)) ([]*relabel.Config, error) {
	content, err := p.Content()
	if err != nil || len(content) == 0 {
		return nil, err
	}
	rules, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Source(), err)
	}
	return rules, nil
}

// ParseSelectorRules parses the rules of SelectorRules.
func ParseSelectorRules(content []byte, what string) ([]*relabel.Config, error) {
	return parseRules(content, func(rule *relabel.Config) error {
		switch rule.Action {
		case relabel.Keep, relabel.Drop, relabel.HashMod:
			return nil
		}
		return fmt.Errorf("action %q cannot choose %s (use keep, drop or hashmod)", rule.Action, what)
	})
}

// ParseRelabelRules parses a list of relabelling rules.
func ParseRelabelRules(content []byte) ([]*relabel.Config, error) {
	return parseRules(content, func(*relabel.Config) error { return nil })
}

// parseRules parses a list of rules and checks each with allow and by itself.
func parseRules(content []byte, allow func(*relabel.Config) error) ([]*relabel.Config, error) {
	var rules []*relabel.Config
	if err := DecodeYAML(content, &rules); err != nil {
		return nil, err
	}
	for i, rule := range rules {
		if rule == nil {
			return nil, fmt.Errorf("rule %d is empty", i+1)
		}
		err := allow(rule)
		if err == nil {
			err = rule.Validate(model.UTF8Validation)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return rules, nil
}
