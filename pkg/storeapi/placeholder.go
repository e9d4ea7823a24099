package storeapi

import (
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// Placeholder is what a store sends instead of a raw chunk of a replica that it expects
// not to be read; see Request.Covered. payload is xorcolumn.Placeholder, which many
// placeholders may share.
func Placeholder(mint, maxt int64, payload []byte) Chunk {
	return Chunk{MinTime: mint, MaxTime: maxt, Raw: Data{Encoding: chunkenc.EncXOR, Bytes: payload}}
}

// IsPlaceholder reports whether the chunk stands for one that was left out. Its times
// are those of that chunk, of which neither the encoding nor the samples are known.
func (c *Chunk) IsPlaceholder() bool {
	return c.Aggr == nil && c.Raw.Encoding == chunkenc.EncXOR && xorcolumn.IsPlaceholder(c.Raw.Bytes)
}
