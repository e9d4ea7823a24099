package blockmerge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// sample is a sample for Prometheus's encoder.
type sample struct {
	t  int64
	f  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return s.h }
func (s sample) FH() *histogram.FloatHistogram { return s.fh }
func (s sample) Copy() chunks.Sample           { return s }
func (s sample) Type() chunkenc.ValueType {
	switch {
	case s.h != nil:
		return chunkenc.ValHistogram
	case s.fh != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// at is what a target has at a time: the same in each copy. The kind of its samples is
// that of the series.
func at(kind int, t int64) sample {
	n := t / 1000
	switch {
	case n%97 == 0:
		return sample{t: t, f: math.Float64frombits(value.StaleNaN)}
	case kind == 1:
		return sample{t: t, h: tsdbutil.GenerateTestHistogram(n)}
	case kind == 2:
		return sample{t: t, fh: tsdbutil.GenerateTestCustomBucketsFloatHistogram(n)}
	case kind == 3 && n%7 < 3:
		return sample{t: t, h: tsdbutil.GenerateTestGaugeHistogram(n)}
	}
	return sample{t: t, f: float64(n)}
}

// randomBlock makes series of all kinds, of which each block has others. Its samples
// are a random part of those of the targets.
func randomBlock(t testing.TB, r *rand.Rand, mint, maxt int64) []blocktest.Series {
	var out []blocktest.Series
	for i := range 40 {
		if r.IntN(3) == 0 {
			continue
		}
		lset := labels.FromStrings("__name__", fmt.Sprintf("m%d", i%5), "i", fmt.Sprint(i), "z", "ü")
		if i%3 == 0 {
			lset = labels.FromStrings("__name__", fmt.Sprintf("m%d", i%5), "a", fmt.Sprint(i), "only", fmt.Sprint(mint))
		}
		var list []chunks.Sample
		for ts := mint + r.Int64N(10)*1000; ts < maxt; ts += 1000 * (1 + r.Int64N(20)) {
			list = append(list, at(i%4, ts))
		}
		enc := storage.NewSeriesToChunkEncoder(storage.NewListSeries(lset, list)).Iterator(nil)
		s := blocktest.Series{Labels: lset}
		for enc.Next() {
			s.Chunks = append(s.Chunks, enc.At())
		}
		require.NoError(t, enc.Err())
		out = append(out, s)
	}
	return sortedSeries(out)
}

func sortedSeries(list []blocktest.Series) []blocktest.Series {
	for i := range list { // few
		for k := i; k > 0 && labels.Compare(list[k].Labels, list[k-1].Labels) < 0; k-- {
			list[k], list[k-1] = list[k-1], list[k]
		}
	}
	return list
}

// put writes a block into a directory and a bucket.
func put(t testing.TB, b bucket.Bucket, name string, mint, maxt int64, list []blocktest.Series, hash bool) (*block.Meta, string) {
	t.Helper()
	m := &block.Meta{}
	m.ULID, m.MinTime, m.MaxTime = blocktest.ID(name), mint, maxt
	m.Thanos.Labels = map[string]string{"cluster": "eu"}
	dir := filepath.Join(t.TempDir(), m.ULID.String())
	require.NoError(t, blocktest.Write(context.Background(), dir, m, list))
	m, err := block.Upload(context.Background(), b, dir, block.UploadConfig{Hash: hash})
	require.NoError(t, err)
	return m, dir
}

// kept takes segments over and leaves them where they are.
type kept struct{ sizes []int64 }

func (k *kept) Segment(size int64, _ uint32) error { k.sizes = append(k.sizes, size); return nil }

// to makes one output.
func to(dir string) func(int, int) blockmerge.Output {
	return func(int, int) blockmerge.Output { return blockmerge.Output{Dir: dir, Segments: &kept{}} }
}

// into merges into a directory and verifies the result.
func into(t testing.TB, b bucket.Reader, sources []blockmerge.Source, cfg blockmerge.Config) (string, blockmerge.Result) {
	t.Helper()
	dirs, results := split(t, b, sources, cfg)
	require.Len(t, dirs, 1)
	return dirs[0], results[0]
}

// split merges into as many directories as are needed and verifies the results.
func split(t testing.TB, b bucket.Reader, sources []blockmerge.Source, cfg blockmerge.Config) (dirs []string, results []blockmerge.Result) {
	t.Helper()
	results, err := blockmerge.Merge(context.Background(), b, sources, func(n, count int) blockmerge.Output {
		require.Len(t, dirs, n)
		dirs = append(dirs, filepath.Join(t.TempDir(), fmt.Sprintf("%d of %d", n, count)))
		return blockmerge.Output{Dir: dirs[n], Segments: &kept{}}
	}, cfg)
	require.NoError(t, err)
	require.Len(t, results, len(dirs))
	for i, res := range results {
		verify(t, dirs[i], sources, res)
	}
	return dirs, results
}

func verify(t testing.TB, dir string, sources []blockmerge.Source, res blockmerge.Result) {
	t.Helper()
	m := &block.Meta{}
	m.ULID, m.Version, m.Stats = blocktest.ID("out"), 1, res.Stats
	m.MinTime, m.MaxTime = sources[0].Meta.MinTime, sources[0].Meta.MaxTime
	for _, s := range sources {
		m.MinTime, m.MaxTime = min(m.MinTime, s.Meta.MinTime), max(m.MaxTime, s.Meta.MaxTime)
	}
	require.NoError(t, block.WriteMetaDir(dir, m))
	report, err := block.Verify(context.Background(), dir)
	require.NoError(t, err)
	require.False(t, report.Flawed(), report.Example)
	require.Equal(t, res.Stats.NumSeries, uint64(report.Series))
	require.Equal(t, res.Stats.NumChunks, uint64(report.Chunks))
	require.Equal(t, res.ChunkMaxSize, report.ChunkMaxSize)
	left, err := filepath.Glob(filepath.Join(dir, "index.*"))
	require.NoError(t, err)
	require.Empty(t, left, "temporary files")
}

// read returns all samples of a block as Prometheus reads them: by series, time and
// value.
func read(t testing.TB, dir string, out map[string]map[string]bool) (n uint64) {
	t.Helper()
	b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, nil, nil)
	require.NoError(t, err)
	defer b.Close()
	q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*"))
	for set.Next() {
		key := set.At().Labels().String()
		if out[key] == nil {
			out[key] = map[string]bool{}
		}
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			n++
			if typ == chunkenc.ValFloat {
				ts, v := it.At()
				out[key][fmt.Sprint(ts, " ", math.Float64bits(v))] = true
				continue
			}
			ts, h := it.AtFloatHistogram(nil)
			out[key][fmt.Sprint(ts, " ", typ, " ", h.Schema, h.CustomValues, " ", h.String())] = true
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return n
}

// TestMerge_KeepsEverySample merges blocks of one producer, some of which overlap, with
// buffers of all sizes. The result has each sample of the sources once, and the same
// bytes with any number of workers.
func TestMerge_KeepsEverySample(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 13))
		b := bucket.NewMemory()
		var sources []blockmerge.Source
		want := map[string]map[string]bool{}
		for i := range 2 + r.Int64N(3) {
			mint := (i - r.Int64N(2)) * 7200_000
			m, dir := put(t, b, fmt.Sprintf("s%d", i), mint, mint+7200_000, randomBlock(t, r, mint, mint+7200_000), r.IntN(2) == 0)
			sources = append(sources, blockmerge.Source{Meta: m})
			read(t, dir, want)
		}
		first, _ := into(t, b, sources, blockmerge.Config{Workers: 1, SegmentSize: 100_000})
		got := map[string]map[string]bool{}
		n := read(t, first, got)
		require.Equal(t, want, got, "seed %d", seed)
		total := 0
		for _, s := range want {
			total += len(s)
		}
		require.Equal(t, uint64(total), n, "seed %d: a sample is there twice", seed)
		for _, cfg := range []blockmerge.Config{{Workers: 4, Memory: 1}, {Workers: 2, Memory: 1 << 20}} {
			cfg.SegmentSize = 100_000
			other, _ := into(t, b, sources, cfg)
			requireSameFiles(t, first, other)
		}
	}
}

// TestMerge_SplitsLargeIndex makes limits small: the result is as many blocks as are
// needed, each within the limits and with the symbols of its series only, and together
// they have each sample once.
func TestMerge_SplitsLargeIndex(t *testing.T) {
	b := bucket.NewMemory()
	var sources []blockmerge.Source
	want := map[string]map[string]bool{}
	for i := range int64(3) {
		var list []blocktest.Series
		for n := range 400 {
			c := chunkenc.NewXORChunk()
			app, err := c.Appender()
			require.NoError(t, err)
			app.Append(0, i*7200_000+int64(n), float64(n))
			list = append(list, blocktest.Series{
				Labels: labels.FromStrings("__name__", fmt.Sprintf("m%03d", n), "once", fmt.Sprintf("%03d %d", n, i)),
				Chunks: []chunks.Meta{{MinTime: i*7200_000 + int64(n), MaxTime: i*7200_000 + int64(n), Chunk: c}},
			})
		}
		m, dir := put(t, b, fmt.Sprintf("s%d", i), i*7200_000, i*7200_000+7200_000, list, false)
		sources = append(sources, blockmerge.Source{Meta: m})
		read(t, dir, want)
	}
	for _, c := range []struct {
		limits   blockmerge.Limits
		min, max int
	}{
		{blockmerge.Limits{Index: 100_000, Section: 1 << 20}, 2, 4},
		{blockmerge.Limits{Index: 40_000, Section: 1 << 20}, 5, 16},
		{blockmerge.Limits{Index: 1 << 20, Section: 14_000}, 4, 16},
		{blockmerge.Limits{Index: 1 << 20, Section: 1 << 20}, 1, 1},
	} {
		dirs, _ := split(t, b, sources, blockmerge.Config{Limits: c.limits})
		require.GreaterOrEqual(t, len(dirs), c.min, "%+v", c.limits)
		require.LessOrEqual(t, len(dirs), c.max, "%+v", c.limits)
		got := map[string]map[string]bool{}
		n := uint64(0)
		for _, dir := range dirs {
			info, err := os.Stat(filepath.Join(dir, "index"))
			require.NoError(t, err)
			require.LessOrEqual(t, info.Size(), c.limits.Index)
			n += read(t, dir, got)
		}
		require.Equal(t, want, got)
		require.Equal(t, uint64(3*400), n)
	}
	_, err := blockmerge.Merge(context.Background(), b, sources, to(t.TempDir()), blockmerge.Config{Limits: blockmerge.Limits{Index: 100, Section: 100}})
	require.ErrorContains(t, err, "also with 1024 blocks")
}

func requireSameFiles(t *testing.T, a, b string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(a, "chunks", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range append(names, filepath.Join(a, "index")) {
		rel, err := filepath.Rel(a, name)
		require.NoError(t, err)
		x, err := os.ReadFile(name)
		require.NoError(t, err)
		y, err := os.ReadFile(filepath.Join(b, rel))
		require.NoError(t, err)
		require.True(t, string(x) == string(y), rel)
	}
}

// TestMerge_ContinuesCutReads breaks every third read off. With retries the result is
// the same; without them the merge fails and names no block as damaged.
func TestMerge_ContinuesCutReads(t *testing.T) {
	b := bucket.NewMemory()
	r := rand.New(rand.NewPCG(1, 1))
	var sources []blockmerge.Source
	for i := range int64(3) {
		m, _ := put(t, b, fmt.Sprintf("s%d", i), i*7200_000, i*7200_000+7200_000, randomBlock(t, r, i*7200_000, i*7200_000+7200_000), false)
		sources = append(sources, blockmerge.Source{Meta: m})
	}
	want, _ := into(t, b, sources, blockmerge.Config{})
	for _, fault := range []buckettest.Fault{{CutAt: 1000}, {CutAt: 7, Err: buckettest.ErrInjected}, {Err: buckettest.ErrInjected}} {
		faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "get_range" && op.N%3 == 0 {
				return fault
			}
			return buckettest.Fault{}
		})
		_, err := blockmerge.Merge(context.Background(), faulty, sources, to(filepath.Join(t.TempDir(), "out")), blockmerge.Config{})
		require.Error(t, err)
		require.Empty(t, block.ReasonOf(err))
		cfg := bucket.DefaultRetry()
		cfg.MinBackoff, cfg.MaxBackoff, cfg.MaxTries = time.Microsecond, time.Microsecond, 20
		got, _ := into(t, bucket.Retry(faulty, cfg, nil), sources, blockmerge.Config{})
		requireSameFiles(t, want, got)
	}
}

// TestMerge_FindsEachDamagedByte inverts a bit of bytes of a source, one after the
// other, that the result depends on. Each is found, or changes nothing.
func TestMerge_FindsEachDamagedByte(t *testing.T) {
	b := bucket.NewMemory()
	list := randomBlock(t, rand.New(rand.NewPCG(2, 2)), 0, 100_000)[:4]
	m, _ := put(t, b, "a", 0, 100_000, list, false)
	sources := []blockmerge.Source{{Meta: m}}
	want, _ := into(t, b, sources, blockmerge.Config{Workers: 1})
	found, harmless := 0, 0
	r := rand.New(rand.NewPCG(8, 8))
	for _, f := range m.Thanos.Files[:len(m.Thanos.Files)-1] {
		for i := int64(0); i < f.SizeBytes; i += 1 + r.Int64N(9) {
			// Both files are small and read from their beginning by one request.
			faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
				if op.Kind == "get_range" && op.Name == block.Path(m.ULID, f.RelPath) {
					return buckettest.Fault{Flip: i + 1}
				}
				return buckettest.Fault{}
			})
			dir := filepath.Join(t.TempDir(), "out")
			_, err := blockmerge.Merge(context.Background(), faulty, sources, to(dir), blockmerge.Config{Workers: 1})
			if err == nil {
				harmless++ // postings that are made again, padding
				requireSameFiles(t, want, dir)
				continue
			}
			found++
			var bad *block.CorruptError
			require.ErrorAs(t, err, &bad, "%s byte %d", f.RelPath, i)
			require.Equal(t, m.ULID, bad.ID)
		}
	}
	t.Logf("%d found, %d harmless", found, harmless)
	require.Greater(t, found, harmless)
}

// TestMerge_ComparesHashes changes a byte and its checksum: only the hash shows it.
func TestMerge_ComparesHashes(t *testing.T) {
	b := bucket.NewMemory()
	m, _ := put(t, b, "a", 0, 100_000, randomBlock(t, rand.New(rand.NewPCG(3, 3)), 0, 100_000), true)
	m.Thanos.Files[0].Hash.Value = "00" + m.Thanos.Files[0].Hash.Value[2:]
	_, err := blockmerge.Merge(context.Background(), b, []blockmerge.Source{{Meta: m}}, to(t.TempDir()), blockmerge.Config{})
	require.Equal(t, reason.BlockHashMismatch, block.ReasonOf(err))
}

// TestMerge_RefusesReplicasThatAreNoCopies checks the sum over all workers.
func TestMerge_RefusesReplicasThatAreNoCopies(t *testing.T) {
	b := bucket.NewMemory()
	var sources []blockmerge.Source
	for i := range 2 {
		list := randomBlock(t, rand.New(rand.NewPCG(uint64(i), 4)), int64(i)*500, 7200_000)
		m, _ := put(t, b, fmt.Sprint("r", i), 0, 7200_000, list, false)
		sources = append(sources, blockmerge.Source{Meta: m, Number: i})
	}
	_, err := blockmerge.Merge(context.Background(), b, sources, to(t.TempDir()), blockmerge.Config{Func: dedup.FuncChain, Workers: 3})
	require.ErrorIs(t, err, dedup.ErrNotCopies)
	_, res := into(t, b, sources, blockmerge.Config{Func: dedup.FuncCoverage})
	require.Less(t, res.Stats.NumSamples, sources[0].Meta.Stats.NumSamples+sources[1].Meta.Stats.NumSamples)
}

// failing fails at the n-th segment.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Segment(int64, uint32) error {
	if f.left--; f.left < 0 {
		return errFull
	}
	return nil
}

// TestMerge_EndsWhenAnyStageFails leaves no goroutine: each is waited for.
func TestMerge_EndsWhenAnyStageFails(t *testing.T) {
	b := bucket.NewMemory()
	var sources []blockmerge.Source
	for i := range int64(3) {
		m, _ := put(t, b, fmt.Sprintf("s%d", i), i*7200_000, i*7200_000+7200_000, randomBlock(t, rand.New(rand.NewPCG(5, 5)), i*7200_000, i*7200_000+7200_000), false)
		sources = append(sources, blockmerge.Source{Meta: m})
	}
	before := runtime.NumGoroutine()
	for n := range 3 {
		_, err := blockmerge.Merge(context.Background(), b, sources, func(int, int) blockmerge.Output {
			return blockmerge.Output{Dir: t.TempDir(), Segments: &failing{left: n}}
		}, blockmerge.Config{SegmentSize: 20_000})
		require.ErrorIs(t, err, errFull)
	}
	calls := 0
	for n := 1; ; n++ { // the n-th read fails
		faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "get_range" && op.N == n {
				return buckettest.Fault{Err: buckettest.ErrInjected}
			}
			return buckettest.Fault{}
		})
		_, err := blockmerge.Merge(context.Background(), faulty, sources, to(t.TempDir()), blockmerge.Config{Memory: 1})
		if err == nil {
			break
		}
		require.ErrorIs(t, err, buckettest.ErrInjected)
		calls++
	}
	require.Greater(t, calls, 6)
	require.LessOrEqual(t, runtime.NumGoroutine(), before+1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := blockmerge.Merge(ctx, b, sources, to(t.TempDir()), blockmerge.Config{})
	require.ErrorIs(t, err, context.Canceled)
}

// onDisk reads files instead of memory, and measures the live heap at each request.
type onDisk struct {
	bucket.Reader
	mu   sync.Mutex
	dir  string
	peak uint64
	n    int
}

func (d *onDisk) GetRange(_ context.Context, name string, off, length int64) (io.ReadCloser, error) {
	d.measure()
	f, err := os.Open(filepath.Join(d.dir, name))
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, off, length), f}, nil
}

func (d *onDisk) Stat(_ context.Context, name string) (bucket.Object, error) {
	info, err := os.Stat(filepath.Join(d.dir, name))
	if err != nil {
		return bucket.Object{}, err
	}
	return bucket.Object{Name: name, Size: info.Size()}, nil
}

func (d *onDisk) measure() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n++; d.n%8 != 0 {
		return
	}
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	d.peak = max(d.peak, s.HeapAlloc)
}

// TestMerge_MemoryDoesNotDependOnSize merges blocks of ten times the series in the same
// memory: the live heap is that of the buffers.
func TestMerge_MemoryDoesNotDependOnSize(t *testing.T) {
	var c chunkenc.Chunk = chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(6, 6))
	for i := range int64(30) {
		app.Append(0, i*60_000, r.NormFloat64())
	}
	peak := func(series int) uint64 {
		d := &onDisk{dir: t.TempDir()}
		var sources []blockmerge.Source
		for n := range 2 {
			m := &block.Meta{}
			m.ULID, m.MaxTime = blocktest.ID(fmt.Sprint("m", n)), 7200_000
			m.Thanos.Labels = map[string]string{"cluster": "eu"}
			list := make([]blocktest.Series, series)
			for i := range list {
				list[i].Labels = labels.FromStrings("__name__", fmt.Sprintf("m%06d", i/50), "i", fmt.Sprintf("%03d", i%50), "job", "x")
				list[i].Chunks = []chunks.Meta{{MaxTime: 29 * 60_000, Chunk: c}}
			}
			dir := filepath.Join(d.dir, m.ULID.String())
			require.NoError(t, blocktest.Write(context.Background(), dir, m, list))
			m, err := block.ReadMetaDir(dir)
			require.NoError(t, err)
			m.Thanos.Files = []block.File{{RelPath: block.SegmentName(1)}, {RelPath: block.IndexFile}}
			sources = append(sources, blockmerge.Source{Meta: m})
		}
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		dir := t.TempDir()
		_, err := blockmerge.Merge(context.Background(), d, sources, to(dir), blockmerge.Config{Memory: 4 << 20, Workers: 2})
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(dir))
		return d.peak - s.HeapAlloc
	}
	small, large := peak(8_000), peak(80_000)
	t.Logf("%.1f MiB and %.1f MiB of live heap", float64(small)/(1<<20), float64(large)/(1<<20))
	// Which buffers are full at a request differs from one run to the next.
	require.Less(t, float64(large), 1.3*float64(small)+(2<<20))
	require.Less(t, large, uint64(16<<20))
}
