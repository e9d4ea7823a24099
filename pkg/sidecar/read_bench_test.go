package sidecar

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// cpu is the processor time that the process has used. Prometheus runs in the
// test's process, so it is that of both sides.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func drain(b *testing.B, set storeapi.SeriesSet) (series int) {
	b.Helper()
	for set.Next() {
		series++
	}
	require.NoError(b, set.Err())
	require.NoError(b, set.Close())
	return series
}

// BenchmarkSelectDay reads 24 hours of 2,000 series, eleven blocks and the head, in
// turns over remote read alone and from disk with remote read for the head.
func BenchmarkSelectDay(b *testing.B) {
	const hour = int64(3600 * 1000)
	s := promtest.New(b, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "a")})
	lsets := make([]labels.Labels, 2000)
	for i := range lsets {
		lsets[i] = labels.FromStrings("__name__", "requests_total", "instance", fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250),
			"job", "api", "method", "GET", "path", fmt.Sprintf("/v1/things/%d", i%7), "status", "200")
	}
	for now := int64(0); now < 24*hour; now += hour / 2 {
		s.Write(b, func(app storage.Appender) error {
			for t := now; t < now+hour/2; t += 30_000 {
				for i, l := range lsets {
					if _, err := app.Append(0, l, t, float64(t/1000*int64(1+i%5))); err != nil {
						return err
					}
				}
			}
			return nil
		})
		require.NoError(b, s.DB.Compact(b.Context()))
	}
	r := forever(eq("__name__", "requests_total"))
	r.MinTime, r.MaxTime = 0, 24*hour
	r.WithoutReplicaLabels = []string{"replica"}
	remote, direct := newStore(b, s), newStore(b, s)
	withDisk(b, direct, s.Dir)
	read := func(st *promStore) time.Duration {
		runtime.GC()
		before := cpu(b)
		for range 3 {
			n := drain(b, st.Select(b.Context(), r))
			require.GreaterOrEqual(b, n, len(lsets))
		}
		return cpu(b) - before
	}
	var ofRemote, ofDirect time.Duration
	rounds := 0
	for b.Loop() {
		ofRemote += read(remote)
		ofDirect += read(direct)
		rounds += 3
	}
	b.ReportMetric(float64(ofRemote)/float64(rounds)/1e6, "remote-cpu-ms")
	b.ReportMetric(float64(ofDirect)/float64(rounds)/1e6, "direct-cpu-ms")
	b.ReportMetric(float64(ofDirect)/float64(ofRemote), "cpu-ratio")
}

// BenchmarkInstant reads the last five minutes of 1,000 series, which an instant query
// needs, from Prometheus by remote read and through the sidecar and gRPC, in turns.
func BenchmarkInstant(b *testing.B) {
	s := promtest.New(b, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "a")})
	const series = 1000
	s.Write(b, func(app storage.Appender) error {
		for t := int64(0); t < 60*minute; t += 15_000 {
			for i := range series {
				if _, err := app.Append(0, labels.FromStrings("__name__", "up", "instance", fmt.Sprintf("10.0.0.%d:8080", i), "job", "api"), t, 1); err != nil {
					return err
				}
			}
		}
		return nil
	})
	st := newStore(b, s)
	withDisk(b, st, s.Dir)
	client := storetest.ThroughGRPC(b, st)
	r := forever(eq("__name__", "up"))
	r.MinTime, r.MaxTime = 55*minute, 60*minute
	r.WithoutReplicaLabels = []string{"replica"}
	ask := func() {
		stream, err := st.source.client.Read(b.Context(), prom.ReadQuery{MinTime: r.MinTime, MaxTime: r.MaxTime, Matchers: r.Matchers})
		require.NoError(b, err)
		n := 0
		for stream.Next() {
			n++
		}
		require.NoError(b, stream.Err())
		require.NoError(b, stream.Close())
		require.Equal(b, series, n)
	}
	var asked, read []time.Duration
	for b.Loop() {
		start := time.Now()
		ask()
		between := time.Now()
		n := drain(b, client.Select(b.Context(), r))
		asked, read = append(asked, between.Sub(start)), append(read, time.Since(between))
		require.Equal(b, series, n)
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2]) / 1e6
	}
	b.ReportMetric(median(asked), "prometheus-ms")
	b.ReportMetric(median(read), "sidecar-ms")
	b.ReportMetric(median(read)-median(asked), "added-ms")
}

// million answers remote read with a million series of one chunk, without having
// them in memory.
func million(chunk []byte, n int) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v1/read" {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
			table := crc32.MakeTable(crc32.Castagnoli)
			var frame []byte
			for i := range n {
				resp := prompb.ChunkedReadResponse{ChunkedSeries: []*prompb.ChunkedSeries{{
					Labels: []prompb.Label{
						{Name: "__name__", Value: "requests_total"}, {Name: "cluster", Value: "eu"},
						{Name: "instance", Value: fmt.Sprintf("instance-%07d", i)}, {Name: "job", Value: "api"},
						{Name: "namespace", Value: "production"}, {Name: "pod", Value: "api-5d4f8c7b9-x2x4z"}, {Name: "replica", Value: "a"},
					},
					Chunks: []prompb.Chunk{{MinTimeMs: 0, MaxTimeMs: 119_000, Type: prompb.Chunk_XOR, Data: chunk}},
				}}}
				data, err := resp.Marshal()
				if err != nil {
					return
				}
				frame = binary.AppendUvarint(frame[:0], uint64(len(data)))
				frame = binary.BigEndian.AppendUint32(frame, crc32.Checksum(data, table))
				if _, err := w.Write(append(frame, data...)); err != nil {
					return
				}
			}
		})
	}
}

// resident is the memory of this process, in MiB.
func resident(b *testing.B) float64 {
	b.Helper()
	raw, err := os.ReadFile("/proc/self/statm")
	require.NoError(b, err)
	var size, pages int
	_, err = fmt.Sscan(string(raw), &size, &pages)
	require.NoError(b, err)
	return float64(pages*os.Getpagesize()) / (1 << 20)
}

// BenchmarkStreamMillion streams a million series through the sidecar and gRPC and
// reports the largest heap and the largest resident memory on the way, of all in this
// process: the server and the client too.
func BenchmarkStreamMillion(b *testing.B) {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(b, err)
	for i := range 120 {
		app.Append(0, int64(i)*1000, math.Sqrt(float64(i)))
	}
	const n = 1_000_000
	s := promtest.New(b, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "a"), Wrap: million(c.Bytes(), n)})
	client := storetest.ThroughGRPC(b, newStore(b, s))
	debug.FreeOSMemory()
	r := forever(eq("__name__", "requests_total"))
	r.WithoutReplicaLabels = []string{"replica"}
	b.ReportAllocs()
	for b.Loop() {
		var most uint64
		var rss float64
		series := 0
		set := client.Select(b.Context(), r)
		for set.Next() {
			if series++; series%50_000 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
				rss = max(rss, resident(b))
			}
		}
		require.NoError(b, set.Err())
		require.NoError(b, set.Close())
		require.Equal(b, n, series)
		b.ReportMetric(float64(most)/(1<<20), "heap-MiB")
		b.ReportMetric(rss, "RSS-MiB")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/series")
}
