package query

import (
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
)

// warnOfEqualLabels adds a warning to sidecars and rulers that are up and announce the
// same external labels as another one: their series would be mixed.
func warnOfEqualLabels(stores []promapi.StoreStatus) {
	first := map[string]int{}
	for i, s := range stores {
		if s.Health != "up" || s.Component != "sidecar" && s.Component != "rule" {
			continue
		}
		for _, ls := range s.LabelSets {
			j, found := first[ls.String()]
			if !found {
				first[ls.String()] = i
				continue
			}
			if j != i {
				warn(&stores[i], stores[j].Name, ls.String())
				warn(&stores[j], s.Name, ls.String())
			}
		}
	}
}

func warn(s *promapi.StoreStatus, other, labelSet string) {
	s.Warnings = append(s.Warnings[:len(s.Warnings):len(s.Warnings)], fmt.Sprintf(
		"store %s announces the same external labels %s: it is configured twice, or two sources have equal labels", other, labelSet))
}
