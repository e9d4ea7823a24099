package sidecar

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Equal series of parts of different kinds are reported once, those of parts of one
// kind are not.
func TestCollisions_WarnOnce(t *testing.T) {
	part := func(names ...string) storeapi.SeriesSet {
		var out []storeapi.Series
		for _, n := range names {
			out = append(out, storeapi.Series{Labels: labels.FromStrings("__name__", n)})
		}
		return storeapi.NewSliceSet(out)
	}
	kinds := []labels.Labels{labels.FromStrings("a", "1", "b", "2"), labels.FromStrings("a", "1"), labels.EmptyLabels()}
	warnings := func(parts ...storeapi.SeriesSet) storeapi.Warnings {
		set := storeapi.Merge((&collisions{kinds: kinds}).watch(parts), storeapi.Order{})
		for set.Next() {
			_ = set.At()
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
		return set.Warnings()
	}
	require.Empty(t, warnings(part("a", "c"), part("b", "d"), part()))
	ws := warnings(part("a", "b", "c"), part("c", "d"), part("d"))
	require.Len(t, ws, 1)
	require.Contains(t, ws[0].Text, `{__name__="c"}`)
	require.Len(t, warnings(part("z"), part("a", "b", "z")), 1, "also when one part is far ahead")
	kinds[1] = kinds[0]
	require.Empty(t, warnings(part("a"), part("a"), part("b")), "they are replicas")
}
