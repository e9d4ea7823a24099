package query

import (
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// A chunk that a store keeps as columns counts for the samples and bytes that it counts for
// otherwise: what a request may read does not depend on what a cache has.
func TestWeigh_Columns(t *testing.T) {
	var e columnchunk.Encoder
	for _, n := range []int{1, 2, 50, 120} {
		for _, enc := range []chunkenc.Encoding{chunkenc.EncXOR, chunkenc.EncXOR2} {
			c := storetest.Chunks(t, storetest.Floats(0, 1000, n), n, enc)[0]
			want := weigh(&c)
			require.Equal(t, weight{samples: int64(n), bytes: int64(len(c.Raw.Bytes)), memory: int64(len(c.Raw.Bytes))}, want)
			b, ok := e.AppendChunk(nil, enc, c.Raw.Bytes)
			if !ok {
				require.Less(t, n, 50, "smaller than the head")
				continue
			}
			c.Raw = storeapi.Data{Encoding: columnchunk.Encoding, Bytes: b}
			want.memory = int64(len(b))
			require.Equal(t, want, weigh(&c))
		}
	}
}
