package aggr

import (
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// headerAt is where a chunk of histograms has its counter reset header, in the
// two upper bits: after the sample count. Prometheus and Thanos ignore the other bits.
const headerAt = 2

// rawValues is the bit beside the header that says that the samples of a counter aggregate are
// raw values. The header alone cannot say so: Thanos copies it from the chunk that it
// downsamples, and adds resets up whatever it is.
const rawValues = 1

// CounterResetHeader returns the header of a chunk of histograms of an aggregate. Of a counter,
// NotCounterReset and CounterReset say that its samples are raw values, without a reset among
// them; CounterReset, that the first one follows a reset. Chunks of other writers and data of
// other encodings have UnknownCounterReset, unless they are gauges.
func CounterResetHeader(d storeapi.Data) chunkenc.CounterResetHeader {
	if d.Encoding != chunkenc.EncHistogram && d.Encoding != chunkenc.EncFloatHistogram || len(d.Bytes) <= headerAt {
		return chunkenc.UnknownCounterReset
	}
	header := chunkenc.CounterResetHeader(d.Bytes[headerAt] & chunkenc.CounterResetHeaderMask)
	if header != chunkenc.GaugeType && d.Bytes[headerAt]&rawValues == 0 {
		return chunkenc.UnknownCounterReset
	}
	return header
}

// SetCounterResetHeader writes the header of a chunk of an aggregate, of encoding EncHistogram or
// EncFloatHistogram. NotCounterReset and CounterReset mean raw values.
func SetCounterResetHeader(d storeapi.Data, h chunkenc.CounterResetHeader) {
	b := d.Bytes[headerAt]&^(chunkenc.CounterResetHeaderMask|rawValues) | byte(h)
	if h == chunkenc.NotCounterReset || h == chunkenc.CounterReset {
		b |= rawValues
	}
	d.Bytes[headerAt] = b
}
