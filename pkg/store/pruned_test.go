package store

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// The statistics of an answer say how many blocks were left out and why, and how much was
// in the cache.
func TestStats_CountPrunedBlocksAndCachedPages(t *testing.T) {
	s := shape{blocks: 3, metrics: 3, instances: 20, codes: 2, samples: 240}
	bkt := bucket.NewMemory()
	s.fill(t, bkt)
	g := newGateway(t, bkt)
	metric := matcher(labels.MatchEqual, "__name__", "metric_001_total")
	r := request(s, metric)
	r.WantStats, r.MaxTime = true, 4*hour-1
	_, _, cold := drain(t, g, t.Context(), r)
	require.Equal(t, []int64{2, 1, 0, 0}, []int64{cold.BlocksQueried, cold.BlocksOtherTimes, cold.BlocksOtherLabels, cold.BlocksOtherResolutions})
	require.Positive(t, cold.PagesFetched)
	require.LessOrEqual(t, cold.PagesFetched, cold.PagesTouched)
	_, _, warm := drain(t, g, t.Context(), r)
	require.Positive(t, warm.PagesTouched)
	require.Zero(t, warm.PagesFetched)

	r = request(s, metric, matcher(labels.MatchEqual, "cluster", "us"))
	r.WantStats = true
	_, _, none := drain(t, g, t.Context(), r)
	require.Equal(t, []int64{0, 0, 3}, []int64{none.BlocksQueried, none.BlocksOtherTimes, none.BlocksOtherLabels})
	r.WantStats = false
	_, _, none = drain(t, g, t.Context(), r)
	require.Zero(t, none.BlocksOtherLabels, "counting costs time")
}
