package remotewrite_test

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

func Example() {
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "api"}},
		Samples: []prompb.Sample{{Value: 1, Timestamp: 1000}},
	}}}
	raw, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	buf, err := remotewrite.Decompress(s2.EncodeSnappy(nil, raw), 1<<20)
	if err != nil {
		panic(err)
	}
	batch, err := remotewrite.ScanV1(buf, buf.B) // owns buf from here
	if err != nil {
		panic(err)
	}
	defer batch.Close()
	for i := range batch.Len() {
		series := batch.Series(i)
		items := remotewrite.ItemReader{B: series.Rest}
		for item, msg, ok := items.Next(); ok; item, msg, ok = items.Next() {
			if item != remotewrite.ItemSample {
				continue
			}
			s, err := remotewrite.ParseSample(msg)
			fmt.Println(remotewrite.Text(series.Labels), s.T, s.V, err)
		}
	}
	// Output: {__name__="up", job="api"} 1000 1 <nil>
}
