package receive

import (
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// The headers of remote write 2.0 count the stored items, also when the ring rejected
// a part of the request.
func TestWrittenCounts_CountStoredItems(t *testing.T) {
	for _, size := range []int{1, 3, 5} {
		t.Run(fmt.Sprint(size, " nodes"), func(t *testing.T) {
			var m *member
			if size == 1 {
				m = start(t, DefaultConfig(), listen(t), nil)
			} else {
				m = cluster(t, size, 3, nil)[0]
			}
			now := time.Now().UnixMilli()
			send := func(old int) reply {
				now++
				req := &writev2.Request{Symbols: []string{"", "__name__", "le", "+Inf"}}
				for i := range 100 {
					req.Symbols = append(req.Symbols, fmt.Sprintf("m%d", i))
					ts := writev2.TimeSeries{LabelsRefs: []uint32{1, uint32(len(req.Symbols) - 1)}, Samples: []writev2.Sample{{Timestamp: now, Value: 1}}}
					if i < old {
						ts.Samples[0].Timestamp -= 30 * 3600_000
					}
					req.Timeseries = append(req.Timeseries, ts)
				}
				raw, err := req.Marshal()
				require.NoError(t, err)
				return post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw), version2Headers...)
			}
			const written = "X-Prometheus-Remote-Write-Samples-Written"
			ok := send(0)
			require.Equal(t, 204, ok.code, ok.body)
			require.Equal(t, "100", ok.header.Get(written))
			for _, old := range []int{1, 30, 100} {
				a := send(old)
				require.Equal(t, 400, a.code, a.body)
				require.Contains(t, a.body, "too old sample")
				require.Equal(t, fmt.Sprint(100-old), a.header.Get(written), a.body)
			}
		})
	}
}
