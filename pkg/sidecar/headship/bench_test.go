package headship_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/sidecar/headship"
)

// BenchmarkShip shows the two costs of shipping against a TSDB that appends the same
// samples: bytes shipped per byte of the log, and CPU time of the process while it ships
// per CPU time while it appends. An iteration is a minute of 100,000 samples a second:
// 400 targets with 1,000 series each that are scraped every 4 seconds, as gauges and counters
// have them. Parsing of scrapes, rules and compaction are not counted for Prometheus.
func BenchmarkShip(b *testing.B) {
	for _, c := range compression.Types() {
		b.Run(c, func(b *testing.B) { benchmarkShip(b, c) })
	}
}

const (
	benchTargets = 400
	benchSeries  = 1000
	benchScrapes = 15 // 4 s apart
)

func benchmarkShip(b *testing.B, c compression.Type) {
	opts := tsdb.DefaultOptions()
	opts.WALCompression = c
	dir := b.TempDir()
	db, err := tsdb.Open(dir, nil, nil, opts, nil)
	require.NoError(b, err)
	defer db.Close()
	db.DisableCompactions()
	mem := &discard{Bucket: bucket.NewMemory()}
	s, err := headship.New(headship.Config{Dir: dir, Interval: time.Minute}, headship.Deps{
		Bucket: mem, Labels: func() labels.Labels { return labels.FromStrings("cluster", "eu") },
		Shipped: func(ulid.ULID) bool { return false },
	})
	require.NoError(b, err)
	w := newScraper(b, db)
	w.scrape() // creates the series
	require.NoError(b, s.Sync(b.Context()))
	mem.bytes, mem.objects = 0, 0
	log := walBytes(b, dir, "wal")

	var appending, shipping time.Duration
	samples := 0
	b.ResetTimer()
	for range b.N {
		start := cpuTime()
		for range benchScrapes {
			samples += w.scrape()
		}
		appending += cpuTime() - start
		start = cpuTime()
		require.NoError(b, s.Sync(b.Context()))
		shipping += cpuTime() - start
	}
	b.StopTimer()
	written := float64(walBytes(b, dir, "wal") - log)
	b.ReportMetric(float64(mem.bytes)/written, "shipped/log")
	b.ReportMetric(100*float64(shipping)/float64(appending), "cpu-%")
	b.ReportMetric(float64(shipping.Nanoseconds())/float64(samples), "ns/sample")
	b.ReportMetric(float64(appending.Nanoseconds())/float64(samples), "ns/append")
	b.ReportMetric(written/float64(samples), "log-B/sample")
	b.ReportMetric(float64(mem.objects)/float64(b.N), "uploads/op")
}

// scraper appends samples of targets.
type scraper struct {
	b      *testing.B
	db     *tsdb.DB
	rng    *rand.Rand
	series []labels.Labels
	refs   []storage.SeriesRef
	values []float64
	now    int64
}

func newScraper(b *testing.B, db *tsdb.DB) *scraper {
	w := &scraper{b: b, db: db, rng: rand.New(rand.NewPCG(1, 2)), now: hour}
	for t := range benchTargets {
		for i := range benchSeries {
			w.series = append(w.series, labels.FromStrings("__name__", fmt.Sprintf("metric_%d_total", i/10),
				"instance", fmt.Sprintf("10.0.%d.%d:9100", t/250, t%250), "job", "node", "mode", fmt.Sprint(i%10)))
		}
	}
	w.refs = make([]storage.SeriesRef, len(w.series))
	w.values = make([]float64, len(w.series))
	return w
}

// scrape appends a sample of each series, one target at a time. A third of the values stay
// as they were, a third are counters of integers, and a third gauges with fractions.
func (w *scraper) scrape() int {
	for t := range benchTargets {
		app := w.db.Appender(w.b.Context())
		ts := w.now + int64(t)*4000/benchTargets
		for j := t * benchSeries; j < (t+1)*benchSeries; j++ {
			switch j % 3 {
			case 1:
				w.values[j] += float64(w.rng.IntN(1000))
			case 2:
				w.values[j] = w.rng.Float64() * 100
			}
			ref, err := app.Append(w.refs[j], w.series[j], ts, w.values[j])
			require.NoError(w.b, err)
			w.refs[j] = ref
		}
		require.NoError(w.b, app.Commit())
	}
	w.now += 4000
	return len(w.series)
}

// cpuTime is the CPU time of the process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
