package query

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestSeries_RefusesMoreOverlappingChunksThanItMayHave(t *testing.T) {
	for n, refused := range map[int]bool{maxLayers: false, maxLayers + 1: true, 100_000: true} {
		var chunks []storeapi.Chunk
		for i := range n {
			c := chunkenc.NewXORChunk()
			app, err := c.Appender()
			require.NoError(t, err)
			app.Append(0, 5, float64(i))
			chunks = append(chunks, storeapi.Chunk{MinTime: 0, MaxTime: 10, Raw: storeapi.Data{Encoding: c.Encoding(), Bytes: c.Bytes()}})
		}
		s := &series{view: &view{mint: 0, maxt: 10}, lset: labels.FromStrings("a", "b"), sources: []source{{chunks: chunks}}}
		it := s.Iterator(nil)
		require.Equal(t, refused, it.Next() == chunkenc.ValNone, n)
		if refused {
			require.ErrorIs(t, it.Err(), limit.ErrExceeded)
			require.ErrorContains(t, it.Err(), `{a="b"}`)
		} else {
			require.NoError(t, it.Err())
		}
	}
}
