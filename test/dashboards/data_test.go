package dashboards

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// The shape of the data: 48 blocks, which are two clusters of two replicas each, over
// a day, scraped every 15 s with jitter, with one outage of five minutes in each
// block of each replica.
const (
	hours       = 24
	blockHours  = 2
	interval    = 15_000
	outage      = 5 * 60_000
	perChunk    = 120
	blockMillis = blockHours * 3600_000
)

func clusters() []string { return []string{"eu", "us"} }
func replicas() []string { return []string{"a", "b"} }

// scraped are the series of one cluster, without external labels.
func scraped() []labels.Labels {
	var out []labels.Labels
	for i := range 2000 { // http_requests_total: 40 instances x 50 combinations
		out = append(out, labels.FromStrings("__name__", "http_requests_total", "job", "api",
			"instance", fmt.Sprintf("10.0.%d.%d:8080", i%40/10, i%10), "service", fmt.Sprintf("service-%02d", i%20),
			"code", []string{"200", "204", "404", "500", "503"}[i/40%5], "handler", fmt.Sprintf("/api/v1/handler-%02d", i/200)))
	}
	modes := []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}
	for instance := range 36 {
		for cpu := range 8 {
			for _, mode := range modes {
				out = append(out, labels.FromStrings("__name__", "node_cpu_seconds_total", "job", "node",
					"instance", fmt.Sprintf("10.1.0.%d:9100", instance), "cpu", fmt.Sprint(cpu), "mode", mode))
			}
		}
	}
	for i := range 500 {
		for _, le := range []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"} {
			out = append(out, labels.FromStrings("__name__", "http_request_duration_seconds_bucket", "job", "api",
				"instance", fmt.Sprintf("10.0.%d.%d:8080", i%40/10, i%10), "service", fmt.Sprintf("service-%02d", i%20),
				"handler", fmt.Sprintf("/api/v1/handler-%02d", i/40), "le", le))
		}
	}
	for i := range 3700 {
		out = append(out, labels.FromStrings("__name__", fmt.Sprintf("process_gauge_%03d", i%100), "job", "api",
			"instance", fmt.Sprintf("10.0.%d.%d:8080", i/100%4, i%10), "part", fmt.Sprint(i/100)))
	}
	return out
}

// counter is the state of one series of one cluster: both replicas see the same.
type counter struct {
	rate    float64
	integer bool
}

// value is the counter at a time in milliseconds since the start of the data: a
// steady growth with waves, so that all replicas agree without a shared state.
func (c counter) value(t int64) float64 {
	const wave = 600_000
	v := c.rate * (float64(t)/1000 + 0.3*float64(t%wave)/1000)
	if c.integer {
		return float64(int64(v))
	}
	return float64(int64(v*100)) / 100
}

// blockSeries returns the series of a block of two hours that begins at from.
// begin is the start of the data; extra are labels that each series gets.
func blockSeries(b *testing.B, seed uint64, begin, from int64, extra ...labels.Label) []blocktest.Series {
	rng := rand.New(rand.NewPCG(seed, uint64(from)))
	var out []blocktest.Series
	builder := labels.NewBuilder(labels.EmptyLabels())
	for i, lset := range scraped() {
		c := counter{rate: float64(i%97)/3 + 0.1, integer: lset.Get("__name__") != "node_cpu_seconds_total"}
		builder.Reset(lset)
		for _, l := range extra {
			builder.Set(l.Name, l.Value)
		}
		phase := int64(i%40)*(interval/40) + int64(seed%2)*interval/2
		gap := from + int64(seed%7+1)*10*60_000
		s := blocktest.Series{Labels: builder.Labels()}
		var c0 *chunkenc.XORChunk
		var app chunkenc.Appender
		meta := chunks.Meta{}
		flush := func() {
			if c0 != nil && c0.NumSamples() > 0 {
				meta.Chunk = c0
				s.Chunks = append(s.Chunks, meta)
			}
			c0 = nil
		}
		for t := from + phase; t < from+blockMillis; t += interval {
			if t >= gap && t < gap+outage {
				continue
			}
			at := min(max(t+rng.Int64N(21)-10, from), from+blockMillis-1)
			if c0 == nil {
				c0 = chunkenc.NewXORChunk()
				var err error
				app, err = c0.Appender()
				require.NoError(b, err)
				meta = chunks.Meta{MinTime: at}
			}
			app.Append(0, at, c.value(at-begin))
			meta.MaxTime = at
			if c0.NumSamples() == perChunk {
				flush()
			}
		}
		flush()
		out = append(out, s)
	}
	return out
}

// writeBlock writes a block into a directory of its ULID below dir.
func writeBlock(dir string, from int64, ext map[string]string, series []blocktest.Series) (string, error) {
	id := ulid.MustNew(uint64(from+blockMillis), ulid.DefaultEntropy())
	var stats tsdb.BlockStats
	for _, s := range series {
		stats.NumSeries++
		stats.NumChunks += uint64(len(s.Chunks))
		for _, c := range s.Chunks {
			stats.NumSamples += uint64(c.Chunk.NumSamples())
		}
	}
	m := &block.Meta{
		BlockMeta: tsdb.BlockMeta{ULID: id, MinTime: from, MaxTime: from + blockMillis, Stats: stats},
		Thanos:    block.Thanos{Version: 1, Labels: ext, Source: "sidecar"},
	}
	path := filepath.Join(dir, id.String())
	return path, blocktest.Write(context.Background(), path, m, series)
}

// begin is the start of the data: a day that ended some hours ago.
func begin() int64 {
	end := time.Now().Add(-3*time.Hour).UnixMilli() / blockMillis * blockMillis
	return end - hours*3600_000
}

// each calls f for the start of each block, two at a time.
func each(start int64, f func(from int64) error) error {
	var g errgroup.Group
	g.SetLimit(2)
	for from := start; from < start+hours*3600_000; from += blockMillis {
		g.Go(func() error { return f(from) })
	}
	return g.Wait()
}

// fillPrometheus writes the blocks of one replica of both clusters.
func fillPrometheus(b *testing.B, dir string, start int64) error {
	return each(start, func(from int64) error {
		var all []blocktest.Series
		for k, cluster := range clusters() {
			all = append(all, blockSeries(b, uint64(2*k), start, from, labels.Label{Name: "cluster", Value: cluster})...)
		}
		_, err := writeBlock(dir, from, nil, all)
		return err
	})
}

// fillBucket writes the blocks of all replicas and passes each to upload.
func fillBucket(b *testing.B, dir string, start int64, upload func(dir string) error) error {
	return each(start, func(from int64) error {
		for k, cluster := range clusters() {
			for r, replica := range replicas() {
				series := blockSeries(b, uint64(2*k+r), start, from)
				path, err := writeBlock(dir, from, map[string]string{"cluster": cluster, "replica": replica}, series)
				if err != nil {
					return err
				}
				if err := upload(path); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
