package storeapi_test

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// pkg/limit tests how series and samples count.
func TestCut_FailsAtItsBounds(t *testing.T) {
	a, b := labels.FromStrings("a", "1"), labels.FromStrings("a", "2")
	set := func() storeapi.SeriesSet {
		return storeapi.NewSliceSet([]storeapi.Series{
			{Labels: a, Chunks: make([]storeapi.Chunk, 1)},
			{Labels: a, Chunks: make([]storeapi.Chunk, 2)},
			{Labels: b, Chunks: make([]storeapi.Chunk, 1)},
		})
	}
	s := storeapi.Cut{}.Apply(set())
	n := 0
	for s.Next() {
		n++
	}
	require.NoError(t, s.Err())
	require.Equal(t, 3, n)

	s, n = storeapi.Cut{Bounds: storeapi.Bounds{Series: 2, Samples: 479}}.Apply(set()), 0
	for s.Next() {
		n++
	}
	require.Equal(t, 2, n)
	require.False(t, s.Next(), "a set that has ended stays ended")
	require.ErrorContains(t, s.Err(), "request needs at least 480 samples")
	require.ErrorIs(t, s.Err(), limit.ErrExceeded)
}
