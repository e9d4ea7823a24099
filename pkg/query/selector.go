package query

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// selector reads the relabelling that chooses stores; nil when there is none.
func (c *Config) selector() ([]*relabel.Config, error) {
	return flags.SelectorRules(&c.SelectorRelabel, "stores")
}

// storeFilter says which stores are asked: those with a label set that the
// rules keep. Where they keep only some of a store's label sets, the matchers
// restrict what it is asked to these. A store that announces no labels is
// always asked.
func storeFilter(rules []*relabel.Config) func(storeapi.Info) ([]*labels.Matcher, bool) {
	if len(rules) == 0 {
		return nil
	}
	return func(info storeapi.Info) ([]*labels.Matcher, bool) {
		var kept []labels.Labels
		for _, l := range info.LabelSets {
			if relabel.ProcessBuilder(labels.NewBuilder(l), rules...) {
				kept = append(kept, l)
			}
		}
		switch {
		case len(info.LabelSets) == 0, len(kept) == len(info.LabelSets):
			return nil, true
		case len(kept) == 0:
			return nil, false
		}
		ms, err := matchersFor(kept)
		// No matcher can have a value that is not UTF-8.
		return ms, err == nil
	}
}

// matchersFor accepts the values that the label sets have, label by label.
func matchersFor(sets []labels.Labels) ([]*labels.Matcher, error) {
	values := map[string]map[string]bool{}
	for _, set := range sets {
		set.Range(func(l labels.Label) { values[l.Name] = map[string]bool{} })
	}
	for name, seen := range values {
		for _, set := range sets {
			// A set without the label stands for the empty value.
			seen[set.Get(name)] = true
		}
	}
	var out []*labels.Matcher
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var alternatives []string
		for _, v := range slices.Sorted(maps.Keys(values[name])) {
			if v == "" {
				alternatives = append(alternatives, "^$")
				continue
			}
			alternatives = append(alternatives, regexp.QuoteMeta(v))
		}
		m, err := labels.NewMatcher(labels.MatchRegexp, name, strings.Join(alternatives, "|"))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}
