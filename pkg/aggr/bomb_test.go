package aggr_test

import (
	"encoding/binary"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// A chunk that announces 2^32-1 buckets is refused before its iterator is opened,
// alone and as a part of an aggregate chunk.
func TestPool_RefusesChunkOfTooManyBuckets(t *testing.T) {
	bomb := append([]byte{
		0, 1, 0, 0, 0b0_10_001_11, 0b111110_00, 0, 0, 0, 0b11111111, 0b11111111, 0b11111111, 0b11111100,
	}, make([]byte, 37)...)
	for _, enc := range []chunkenc.Encoding{chunkenc.EncHistogram, chunkenc.EncFloatHistogram, chunkenc.EncHistogramST, chunkenc.EncFloatHistogramST} {
		_, err := aggr.NewPool().Get(enc, bomb)
		require.ErrorIs(t, err, aggr.ErrCorrupt)

		it := aggr.DataIterator(aggr.Data{Encoding: enc, Bytes: bomb})
		require.Equal(t, chunkenc.ValNone, it.Next())
		require.ErrorIs(t, it.Err(), aggr.ErrCorrupt)

		sum := binary.AppendUvarint([]byte{0}, uint64(len(bomb))) // without a count
		sum = append(append(sum, byte(enc)), bomb...)
		_, err = aggr.Decode(append(sum, 0, 0, 0))
		require.ErrorIs(t, err, aggr.ErrCorrupt)
	}
}
