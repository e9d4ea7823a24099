package query

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
)

func TestWarnOfEqualLabels(t *testing.T) {
	store := func(component, name, health, replica string) promapi.StoreStatus {
		return promapi.StoreStatus{
			Component: component, Name: name, Health: health, LabelSets: []labels.Labels{labels.FromStrings("replica", replica)},
			Warnings: []string{"own"},
		}
	}
	stores := []promapi.StoreStatus{
		store("sidecar", "s1", "up", "a"), store("sidecar", "s2", "up", "b"), store("rule", "r1", "up", "a"),
		store("sidecar", "s3", "missing", "b"), store("store", "g1", "up", "b"),
	}
	warnOfEqualLabels(stores)
	var warned []string
	for _, s := range stores {
		require.Equal(t, "own", s.Warnings[0])
		if len(s.Warnings) > 1 {
			warned = append(warned, s.Name)
		}
	}
	require.Equal(t, []string{"s1", "r1"}, warned)
	require.Contains(t, stores[0].Warnings[1], "store r1 announces the same external labels {replica=\"a\"}")

	stores = nil
	for i := range 5 {
		stores = append(stores, store("sidecar", fmt.Sprint("s", i), "up", "a"))
	}
	warnOfEqualLabels(stores)
	for i, s := range stores {
		require.Len(t, s.Warnings, 2, s.Name)
		require.Contains(t, s.Warnings[1], map[bool]string{true: "store s1 and 3 more announce", false: "store s0 and 3 more announce"}[i == 0])
	}
}
