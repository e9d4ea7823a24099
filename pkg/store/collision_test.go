package store

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// TestSelect_WarnsOfSeriesThatBecomeEqual has a block whose series carry labels
// named like its external labels.
func TestSelect_WarnsOfSeriesThatBecomeEqual(t *testing.T) {
	bkt := blocktest.Bucket(t, `
block a range=0h..2h labels={cluster="eu",replica="r0"}
  one{cluster="x"} 0h..1h/5m:1
  one{cluster="y"} 0h..1h/5m:2
  two{cluster="x"} 0h..1h/5m:3
  three{replica="p"} 0h..1h/5m:4
  three{replica="q"} 0h..1h/5m:5
`)
	g := newGateway(t, bkt)
	f := func(name string, want int, drop ...string) {
		t.Helper()
		set := g.Select(t.Context(), &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, WithoutReplicaLabels: drop,
			Matchers: []*labels.Matcher{matcher(labels.MatchEqual, "__name__", name)}})
		for set.Next() {
			require.Equal(t, "eu", set.At().Labels.Get("cluster"))
		}
		require.NoError(t, set.Err())
		ws := set.Warnings()
		require.NoError(t, set.Close())
		require.Len(t, ws, want, "%s", name)
		if want > 0 {
			require.Contains(t, ws[0].Text, "different series appear as one")
		}
	}
	f("one", 1)
	f("two", 0)
	f("three", 1)
	f("three", 0, "replica") // as the request wants
}
