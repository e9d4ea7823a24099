package compact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// load describes blocks of counters and gauges, half each, as a Prometheus
// server with some scrape jitter has them.
type load struct {
	series   int
	length   time.Duration
	interval int64 // ms
	replicas int
	blocks   int
}

func (l load) samples() int {
	return l.series * l.replicas * l.blocks * int(l.length.Milliseconds()/l.interval)
}

// fill uploads the blocks. Replicas scrape at other times of the interval.
func (l load) fill(t testing.TB, b bucket.Bucket) {
	t.Helper()
	for n := range l.blocks {
		for r := range l.replicas {
			m := &block.Meta{}
			m.ULID = blocktest.ID(fmt.Sprintf("b%04d%d", n, r))
			m.MinTime = int64(n) * l.length.Milliseconds()
			m.MaxTime = m.MinTime + l.length.Milliseconds()
			m.Thanos.Labels = map[string]string{"cluster": "eu", "replica": fmt.Sprint(r)}
			m.Thanos.Source = block.SourceSidecar
			dir := filepath.Join(t.TempDir(), m.ULID.String())
			require.NoError(t, blocktest.Write(context.Background(), dir, m, l.block(m.MinTime, m.MaxTime, int64(r)*l.interval/3)))
			_, err := block.Upload(context.Background(), b, dir, block.UploadConfig{})
			require.NoError(t, err)
		}
	}
}

func (l load) block(mint, maxt, offset int64) []blocktest.Series {
	out := make([]blocktest.Series, l.series)
	for i := range out {
		r := rand.New(rand.NewPCG(uint64(i), uint64(mint)))
		out[i].Labels = labels.FromStrings("__name__", fmt.Sprintf("metric_%03d_total", i%200), "job", "node", "instance", fmt.Sprintf("host-%04d:9100", i/200), "mode", fmt.Sprint(i%8))
		var e xorcolumn.Encoder
		var from, last int64
		flush := func() {
			if e.Len() > 0 {
				c, err := chunkenc.FromData(chunkenc.EncXOR, e.Finish())
				if err != nil {
					panic(err)
				}
				out[i].Chunks = append(out[i].Chunks, chunks.Meta{MinTime: from, MaxTime: last, Chunk: c})
			}
			e.Reset(nil)
		}
		flush()
		v := float64(r.IntN(1_000_000))
		for t := mint + offset + r.Int64N(3); t < maxt; t += l.interval {
			if e.Len() == 120 {
				flush()
			}
			if e.Len() == 0 {
				from = t
			}
			jitter := int64(0)
			if r.IntN(10) == 0 {
				jitter = 1
			}
			last = t + jitter
			if i%2 == 0 {
				v += float64(r.IntN(20))
			} else if r.IntN(3) == 0 {
				v = float64(r.IntN(100))
			}
			e.Append(last, v)
		}
		flush()
	}
	return out
}

// cpu is the processor time of this process, all and in the kernel.
func cpu(t testing.TB) (all, kernel time.Duration) {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), time.Duration(u.Stime.Nano())
}

// limit is what decoding all samples with Prometheus's iterator, and encoding
// them with its appender, costs in CPU seconds for a million samples.
func (l load) limit(t testing.TB) (decode, both float64) {
	l.series = min(l.series, 2000)
	series := l.block(0, l.length.Milliseconds(), 0)
	runtime.GC()
	samples := 0
	start, _ := cpu(t)
	var it chunkenc.Iterator
	for _, s := range series {
		for _, c := range s.Chunks {
			it = c.Chunk.Iterator(it)
			for it.Next() != chunkenc.ValNone {
				samples++
			}
		}
	}
	middle, _ := cpu(t)
	for _, s := range series {
		for _, c := range s.Chunks {
			app, err := chunkenc.NewXORChunk().Appender()
			require.NoError(t, err)
			it = c.Chunk.Iterator(it)
			for it.Next() != chunkenc.ValNone {
				ts, v := it.At()
				app.Append(0, ts, v)
			}
		}
	}
	end, _ := cpu(t)
	million := float64(samples) / 1e6
	return (middle - start).Seconds() / million, (end - middle).Seconds() / million
}

// measure runs whole passes, with download, verification before and after and
// upload, over a bucket in memory: CPU of the process, work directory included. Samples are those of so many of the blocks as
// are inputs.
func measure(b *testing.B, l load, inputs int, want string, args ...string) {
	src := bucket.NewMemory()
	l.fill(b, src)
	var used, kernel time.Duration
	var read, written int64
	var size int64
	for _, name := range list(b, src) {
		o, err := src.Stat(context.Background(), name)
		require.NoError(b, err)
		size += o.Size
	}
	for b.Loop() {
		b.StopTimer()
		dst := copyBucket(b, src)
		counted := &countingBucket{Bucket: dst, room: bytes.Repeat([]byte{1}, int(size))}
		c, err := compact.New(config(b, args...), compact.Deps{Bucket: counted, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(b, err)
		runtime.GC()
		b.StartTimer()
		start, startKernel := cpu(b)
		require.NoError(b, c.RunOnce(context.Background()))
		end, endKernel := cpu(b)
		used, kernel = used+end-start, kernel+endKernel-startKernel
		b.StopTimer()
		require.Contains(b, fmt.Sprint(live(b, dst)), want)
		read, written = read+counted.read.Load(), written+counted.written.Load()
		b.StartTimer()
	}
	n := float64(b.N)
	million := float64(l.samples()/l.blocks*inputs) / 1e6
	b.ReportMetric(used.Seconds()/n/million, "cpu-s/Msample")
	decode, both := l.limit(b)
	b.ReportMetric(used.Seconds()/n/million/decode, "ratio-to-decoding")
	b.ReportMetric(used.Seconds()/n/million/both, "ratio-to-reencoding")
	b.ReportMetric(kernel.Seconds()/n/million, "kernel-s/Msample")
	b.ReportMetric(kernel.Seconds()/used.Seconds(), "kernel-share")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(read)/n/float64(size), "read-bytes/input-byte")
	b.ReportMetric(float64(written)/n/float64(size), "written-bytes/input-byte")
	b.ReportMetric(float64(read+written)/n/(float64(size)*float64(inputs)/float64(l.blocks)), "bytes/input-byte")
}

// BenchmarkVertical merges two replicas of 2 h, 14,000 series.
func BenchmarkVertical(b *testing.B) {
	measure(b, load{series: 14_000, length: 2 * time.Hour, interval: 15_000, replicas: 2, blocks: 1}, 1, "0..2h res=0 level=2",
		"--deduplication.func=penalty", "--deduplication.replica-label=replica")
}

// BenchmarkHorizontal merges four blocks of 2 h to 8 h. The fifth shows that the
// window is over; it is not touched.
func BenchmarkHorizontal(b *testing.B) {
	l := load{series: 14_000, length: 2 * time.Hour, interval: 15_000, replicas: 1, blocks: 5}
	measure(b, l, 4, "0..8h res=0 level=2")
}

// BenchmarkMergeLarge merges two blocks of 140,000 series, ten times those of the other
// benchmarks, from a directory. The peak is that of the whole heap with its garbage.
func BenchmarkMergeLarge(b *testing.B) {
	ctx := context.Background()
	list := load{series: 1, length: 2 * time.Hour, interval: 15_000}.block(0, 2*time.Hour.Milliseconds(), 0)
	src := &fileBucket{Bucket: bucket.NewMemory(), dir: b.TempDir()}
	for n, from := range []int64{0, 2, 8, 10} { // the last two show that the window is over
		from *= time.Hour.Milliseconds()
		count := 140_000
		if n > 1 {
			count = 1
		}
		series := make([]blocktest.Series, count)
		for i := range series {
			series[i].Labels = labels.FromStrings("__name__", fmt.Sprintf("metric_%03d_total", i/700), "instance", fmt.Sprintf("host-%04d:9100", i%700))
			for _, c := range list[0].Chunks {
				c.MinTime, c.MaxTime = c.MinTime+from, c.MaxTime+from
				series[i].Chunks = append(series[i].Chunks, c)
			}
		}
		m := &block.Meta{}
		m.ULID, m.MinTime, m.MaxTime = blocktest.ID(fmt.Sprintf("b%04d", n)), from, from+2*time.Hour.Milliseconds()
		m.Thanos.Labels = map[string]string{"cluster": "eu"}
		dir := filepath.Join(b.TempDir(), m.ULID.String())
		require.NoError(b, blocktest.Write(ctx, dir, m, series))
		_, err := block.Upload(ctx, src, dir, block.UploadConfig{})
		require.NoError(b, err)
	}
	for b.Loop() {
		b.StopTimer()
		c, err := compact.New(config(b), compact.Deps{Bucket: src, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(b, err)
		runtime.GC()
		b.StartTimer()
		require.NoError(b, c.RunOnce(ctx))
		require.Contains(b, fmt.Sprint(live(b, src)), "res=0 level=2")
	}
	b.ReportMetric(float64(src.peak)/(1<<20), "peak-heap-MiB")
	b.ReportMetric(0, "ns/op")
}

// fileBucket has index and chunks in files, and measures the heap at each read.
type fileBucket struct {
	bucket.Bucket
	dir  string
	mu   sync.Mutex
	peak uint64
}

func (f *fileBucket) path(name string) (string, bool) {
	return filepath.Join(f.dir, strings.ReplaceAll(name, "/", "_")), strings.HasSuffix(name, "/index") || strings.Contains(name, "/chunks/")
}

func (f *fileBucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	path, mine := f.path(name)
	if !mine {
		return f.Bucket.GetRange(ctx, name, off, length)
	}
	f.mu.Lock()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	f.peak = max(f.peak, s.HeapInuse)
	f.mu.Unlock()
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, off, length), file}, nil
}

func (f *fileBucket) Stat(ctx context.Context, name string) (bucket.Object, error) {
	path, mine := f.path(name)
	if !mine {
		return f.Bucket.Stat(ctx, name)
	}
	info, err := os.Stat(path)
	if err != nil {
		return bucket.Object{}, err
	}
	return bucket.Object{Name: name, Size: info.Size()}, nil
}

func (f *fileBucket) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	path, mine := f.path(name)
	if !mine {
		return f.Bucket.Upload(ctx, name, r, size)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	return errors.Join(err, file.Close())
}

// BenchmarkDownsample makes 5 m data of a block of two days.
func BenchmarkDownsample(b *testing.B) {
	l := load{series: 1000, length: 48 * time.Hour, interval: 15_000, replicas: 1, blocks: 1}
	measure(b, l, 1, "0..48h res=5 level=1")
}

// BenchmarkMergeAndDownsample merges two blocks of a day, alone and with 5 m data of the
// result in the same pass.
func BenchmarkMergeAndDownsample(b *testing.B) {
	l := load{series: 1000, length: 24 * time.Hour, interval: 15_000, replicas: 1, blocks: 3}
	b.Run("merge", func(b *testing.B) { measure(b, l, 2, "0..48h res=0 level=2", "--downsampling.disable") })
	b.Run("both", func(b *testing.B) { measure(b, l, 2, "0..48h res=5 level=2") })
}
