package pagecache

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests, bytes, hits, misses prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *Cache) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_store_page_cache_bytes",
		Help: "Bytes of pages of blocks that are kept in memory.",
	}, func() float64 {
		if c.memory == nil {
			return 0
		}
		return float64(c.memory.WeightedSize())
	})
	return &metrics{
		requests: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_range_reads_total",
			Help: "Range reads of blocks issued to the bucket.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_range_read_bytes_total",
			Help: "Bytes of blocks read from the bucket.",
		}),
		hits: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_page_cache_hits_total",
			Help: "Pages of blocks that were found in the page cache.",
		}),
		misses: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_page_cache_misses_total",
			Help: "Pages of blocks that were not in the page cache.",
		}),
	}
}
