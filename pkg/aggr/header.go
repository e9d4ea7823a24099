package aggr

import (
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// headerAt is where a chunk of histograms has its counter reset header, in the
// two upper bits: after the sample count.
const headerAt = 2

// CounterResetHeader returns the header of a chunk of histograms. Of a counter
// aggregate, anything but UnknownCounterReset says that its samples are raw
// values, without a reset among them; CounterReset, that the first one follows
// a reset. Data of other encodings has UnknownCounterReset.
func CounterResetHeader(d storeapi.Data) chunkenc.CounterResetHeader {
	if d.Encoding != chunkenc.EncHistogram && d.Encoding != chunkenc.EncFloatHistogram || len(d.Bytes) <= headerAt {
		return chunkenc.UnknownCounterReset
	}
	return chunkenc.CounterResetHeader(d.Bytes[headerAt] & chunkenc.CounterResetHeaderMask)
}

// SetCounterResetHeader writes the header of a chunk of encoding
// EncHistogram or EncFloatHistogram.
func SetCounterResetHeader(d storeapi.Data, h chunkenc.CounterResetHeader) {
	d.Bytes[headerAt] = d.Bytes[headerAt]&^chunkenc.CounterResetHeaderMask | byte(h)
}
