package pagecache

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests, bytes, hits, misses prometheus.Counter
}

// newMetrics registers the metrics of the cache; reg may be nil.
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
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_store_disk_cache_pages",
		Help: "Pages of blocks that are kept on disk.",
	}, func() float64 {
		if c.disk == nil {
			return 0
		}
		return float64(c.disk.pages())
	})
	fromDisk := func(name, help string, n func(d *disk) int64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 {
			if c.disk == nil {
				return 0
			}
			return float64(n(c.disk))
		})
	}
	fromDisk("hindsight_store_disk_cache_broken_pages_total", "Pages on disk that did not match their checksum.",
		func(d *disk) int64 { return d.broken.Load() })
	fromDisk("hindsight_store_disk_cache_failures_total", "Pages that could not be written to disk.",
		func(d *disk) int64 { return d.failed.Load() })
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
