package query

import (
	"fmt"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
)

// warnOfEqualLabels adds a warning to sidecars and rulers that are up and announce the
// same external labels as others: their series would be mixed. Each store has one warning
// for a label set, however many others announce it.
func warnOfEqualLabels(stores []promapi.StoreStatus) {
	announced := map[string][]int{} // stores by label set
	var order []string
	for i, s := range stores {
		if s.Health != "up" || s.Component != "sidecar" && s.Component != "rule" {
			continue
		}
		for _, ls := range s.LabelSets {
			key := ls.String()
			at := announced[key]
			if len(at) == 0 {
				order = append(order, key)
			}
			if !slices.Contains(at, i) {
				announced[key] = append(at, i)
			}
		}
	}
	for _, key := range order {
		at := announced[key]
		if len(at) < 2 {
			continue
		}
		for n, i := range at {
			other := at[0]
			if n == 0 {
				other = at[1]
			}
			warn(&stores[i], stores[other].Name, len(at)-2, key)
		}
	}
}

// warn adds the warning that another store, and more, announce the label set.
func warn(s *promapi.StoreStatus, other string, more int, labelSet string) {
	others := fmt.Sprintf("store %s announces", other)
	if more > 0 {
		others = fmt.Sprintf("store %s and %d more announce", other, more)
	}
	s.Warnings = append(s.Warnings[:len(s.Warnings):len(s.Warnings)], fmt.Sprintf(
		"%s the same external labels %s: it is configured twice, or several sources have equal labels", others, labelSet))
}
