package storeapi

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// BenchmarkMerge merges stores that all have the same series of 12 labels, with
// one chunk each, as replicas have. One operation is one series in.
func BenchmarkMerge(b *testing.B) {
	var series []Series
	for i := range 20_000 {
		series = append(series, Series{
			Labels: labels.FromStrings(
				"__name__", "http_request_duration_seconds_bucket", "cluster", "eu-west-1", "code", "200",
				"container", "api", "handler", "/api/v1/query_range", "instance", fmt.Sprintf("10.0.%03d.%03d:9090", i/256, i%256),
				"job", "kubernetes-pods", "le", "0.25", "method", "GET", "namespace", "monitoring",
				"pod", fmt.Sprintf("api-server-7d9c5b6f4-%05d", i), "region", "europe"),
			Chunks: []Chunk{raw(0, 1, string(make([]byte, 200)))},
		})
	}
	for _, k := range []int{1, 2, 4, 16, 64} {
		b.Run(fmt.Sprintf("stores=%d", k), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; {
				sets := make([]SeriesSet, k)
				for i := range sets {
					sets[i] = NewSliceSet(series)
				}
				m := Merge(sets, Order{})
				for m.Next() {
					n += k
				}
			}
		})
	}
}
