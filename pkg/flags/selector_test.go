package flags_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

func TestSelectorRules_TakesOnlyRulesThatChoose(t *testing.T) {
	parse := func(content string) (int, error) {
		p := flags.Inline("selector.relabel-config", content)
		rules, err := flags.SelectorRules(&p, "blocks")
		return len(rules), err
	}
	for content, want := range map[string]int{
		"": 0,
		"[{action: keep, source_labels: [a], regex: b}, {action: hashmod, source_labels: [a], modulus: 2, target_label: __tmp}, {action: drop, source_labels: [__tmp], regex: 1}]": 3,
	} {
		n, err := parse(content)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	for content, want := range map[string]string{
		"{": "--selector.relabel-config: ",
		"[{action: keep, source_labels: [a]}, null]":                               "--selector.relabel-config: rule 2 is empty",
		"[{source_labels: [a], target_label: b}]":                                  `rule 1: action "replace" cannot choose blocks (use keep, drop or hashmod)`,
		"[{action: hashmod, source_labels: [a], modulus: 0, target_label: __tmp}]": "rule 1: ",
	} {
		_, err := parse(content)
		require.ErrorContains(t, err, want)
	}
}
