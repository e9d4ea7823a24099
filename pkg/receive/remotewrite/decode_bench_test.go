package remotewrite

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

const benchSeries = 500

// BenchmarkDecode reads every label and sample of a request in place.
func BenchmarkDecode(b *testing.B) {
	req := &prompb.WriteRequest{}
	for i := range benchSeries {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: "http_requests_total"}, {Name: "instance", Value: fmt.Sprintf("10.0.0.%d:9090", i)},
				{Name: "job", Value: "api"}, {Name: "path", Value: fmt.Sprintf("/api/v1/%0150d", i)},
			},
			Samples: []prompb.Sample{{Value: float64(i), Timestamp: 1_700_000_000_000}},
		})
	}
	raw, err := req.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("version1", func(b *testing.B) {
		benchDecode(b, raw, func(buf *Buffer) (*Batch, error) { return ScanV1(buf, buf.B) })
	})

	symbols := writev2.NewSymbolTable()
	v2 := &writev2.Request{}
	for i := range benchSeries {
		var refs []uint32
		for _, l := range req.Timeseries[i].Labels {
			refs = append(refs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		v2.Timeseries = append(v2.Timeseries, writev2.TimeSeries{
			LabelsRefs: refs, Samples: []writev2.Sample{{Value: float64(i), Timestamp: 1_700_000_000_000}},
		})
	}
	v2.Symbols = symbols.Symbols()
	if raw, err = v2.Marshal(); err != nil {
		b.Fatal(err)
	}
	b.Run("version2", func(b *testing.B) {
		benchDecode(b, raw, func(buf *Buffer) (*Batch, error) { return TranscodeV2(buf, 64<<20) })
	})
}

func benchDecode(b *testing.B, raw []byte, decode func(*Buffer) (*Batch, error)) {
	var h Hasher
	h.Reset("tenant")
	b.ReportAllocs()
	for b.Loop() {
		batch, err := decode(bufferOf(raw))
		if err != nil || batch.Len() != benchSeries {
			b.Fatal(err)
		}
		for i := range batch.Len() {
			s := batch.Series(i)
			if _, err := h.Hash(s.Labels); err != nil {
				b.Fatal(err)
			}
			r := ItemReader{B: s.Rest}
			for _, msg, ok := r.Next(); ok; _, msg, ok = r.Next() {
				if _, err := ParseSample(msg); err != nil {
					b.Fatal(err)
				}
			}
		}
		batch.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/series")
}
