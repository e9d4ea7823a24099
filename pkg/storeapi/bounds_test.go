package storeapi_test

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestBounds(t *testing.T) {
	a, b := labels.FromStrings("a", "1"), labels.FromStrings("a", "2")
	set := func() storeapi.SeriesSet {
		return storeapi.NewSliceSet([]storeapi.Series{
			{Labels: a, Chunks: make([]storeapi.Chunk, 1)},
			{Labels: a, Chunks: make([]storeapi.Chunk, 2)},
			{Labels: b, Chunks: make([]storeapi.Chunk, 1)},
		})
	}
	for _, c := range []struct {
		name   string
		bounds storeapi.Bounds
		sets   int
		err    string
	}{
		{"none", storeapi.Bounds{}, 3, ""},
		{"just enough; the parts of a series are one", storeapi.Bounds{Series: 2, Samples: 480}, 3, ""},
		{"series", storeapi.Bounds{Series: 1}, 2, "limit exceeded: the answer has more than 1 series (--store.limits.request-series)"},
		{"samples", storeapi.Bounds{Samples: 479}, 2, "limit exceeded: the answer has more than 479 samples, counting 120 for each chunk (--store.limits.request-samples)"},
		{"less than one chunk", storeapi.Bounds{Samples: 1}, 0, "limit exceeded: the answer has more than 1 samples, counting 120 for each chunk (--store.limits.request-samples)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, n := c.bounds.Set(set()), 0
			for s.Next() {
				n++
			}
			require.Equal(t, c.sets, n)
			require.False(t, s.Next(), "a set that has ended stays ended")
			if c.err == "" {
				require.NoError(t, s.Err())
				return
			}
			require.EqualError(t, s.Err(), c.err)
			require.ErrorIs(t, s.Err(), storeapi.ErrLimit)
		})
	}
}
