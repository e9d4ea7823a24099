package aggr

import (
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Aggregates and Data are those of the read path; blocks on disk have the same.
type (
	Aggregates = storeapi.Aggregates
	Data       = storeapi.Data
)

// RawIterator returns the samples of raw chunks of one series, like
// SeriesIterator does.
func RawIterator(metas []chunks.Meta) chunkenc.Iterator {
	cs := make([]storeapi.Chunk, len(metas))
	for i, c := range metas {
		cs[i] = storeapi.Chunk{
			MinTime: c.MinTime, MaxTime: c.MaxTime,
			Raw: storeapi.Data{Encoding: c.Chunk.Encoding(), Bytes: c.Chunk.Bytes()},
		}
	}
	return SeriesIterator(cs, []storeapi.Aggregate{storeapi.AggregateRaw})
}
