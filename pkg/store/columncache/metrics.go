package columncache

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	hits, written, broken, failed prometheus.Counter
}

// newMetrics registers the metrics of the cache; reg may be nil.
func newMetrics(reg prometheus.Registerer, c *Cache) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_store_column_cache_bytes",
		Help: "Bytes of the column cache that were written and not emptied since.",
	}, func() float64 { return float64(c.bytes()) })
	return &metrics{
		hits: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_column_cache_hits_total",
			Help: "Pages of blocks whose chunks were read from the column cache.",
		}),
		written: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_column_cache_written_bytes_total",
			Help: "Bytes of chunks written into the column cache.",
		}),
		broken: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_column_cache_broken_entries_total",
			Help: "Entries of the column cache that could not be read as they were written.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_store_column_cache_failures_total",
			Help: "Writes into the column cache that failed.",
		}),
	}
}
