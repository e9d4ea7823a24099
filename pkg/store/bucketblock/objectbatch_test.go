package bucketblock

import (
	"encoding/binary"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// The head of a chunk says how many bytes it had in the block. A bucket may say anything:
// memory is taken for what the samples can need.
func TestObjectBatch_TakesNoMemoryForClaims(t *testing.T) {
	var encoder xorcolumn.Encoder
	encoder.Reset(nil)
	for i := range int64(4096) {
		encoder.Append(15_000*i, 1)
	}
	source := encoder.Finish()
	var columns columnchunk.Encoder
	b, ok := columns.AppendChunk(nil, chunkenc.EncXOR, source)
	require.True(t, ok)
	a := objectBatch{q: &Query{}, out: &batch{}}
	c := blockcolumns.Chunk{MaxTime: 15_000 * 4095, Encoding: columnchunk.Encoding, Bytes: b}
	require.NoError(t, a.check(c))
	require.GreaterOrEqual(t, a.size(), int64(len(source)), "the chunk that grows most has its memory")

	const head, claim = 40, 1 << 31
	binary.LittleEndian.PutUint32(b[head-4:], claim)
	require.Equal(t, int64(claim), columnchunk.SourceSize(b))
	a.encoded = 0
	require.NoError(t, a.check(c))
	require.LessOrEqual(t, a.size(), int64(mostGrowth*len(b)+4<<10))
}
