package eval

import (
	"context"
	"fmt"
	"math/rand"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// chunkStorage has series as XOR chunks in memory, for both evaluators.
type chunkStorage struct{ series []chunkSeries }

type chunkSeries struct {
	labels labels.Labels
	chunks []chunks.Meta
}

const benchDay = 24 * 60 * 60 * 1000

// newChunkStorage makes n counters of a day, scraped every 15 s with jitter. They
// are in order of their labels.
func newChunkStorage(tb testing.TB, n int) *chunkStorage {
	rnd := rand.New(rand.NewSource(1))
	s := &chunkStorage{}
	for i := range n {
		cs := chunkSeries{labels: labels.FromStrings("__name__", "http_requests_total", "cluster", fmt.Sprintf("c%d", i*2/n),
			"instance", fmt.Sprintf("10.0.%03d.%03d:9090", i/250, i%250), "service", fmt.Sprintf("service-%d", i%20))}
		v := float64(rnd.Intn(1000))
		for t := int64(0); t < benchDay; {
			c := chunkenc.NewXORChunk()
			app, err := c.Appender()
			require.NoError(tb, err)
			m := chunks.Meta{Chunk: c, MinTime: t}
			for range 120 {
				m.MaxTime = t + int64(rnd.Intn(40))
				if rnd.Intn(2000) == 0 {
					v = 0
				}
				v += float64(rnd.Intn(50))
				app.Append(0, m.MaxTime, v)
				t += 15_000
			}
			cs.chunks = append(cs.chunks, m)
		}
		s.series = append(s.series, cs)
	}
	return s
}

func (s *chunkStorage) Select(_ context.Context, sel Selector) SeriesStream {
	return &chunkStream{series: s.series, hints: sel.Hints, i: -1}
}

type chunkStream struct {
	series []chunkSeries
	hints  *storage.SelectHints
	i      int
}

func (s *chunkStream) Next() bool                        { s.i++; return s.i < len(s.series) }
func (s *chunkStream) At() Series                        { return boundedSeries{&s.series[s.i], s.hints} }
func (s *chunkStream) Err() error                        { return nil }
func (s *chunkStream) Warnings() annotations.Annotations { return nil }
func (s *chunkStream) Close() error                      { return nil }

// boundedSeries decodes the chunks that overlap with the hints.
type boundedSeries struct {
	*chunkSeries
	hints *storage.SelectHints
}

func (s boundedSeries) Labels() labels.Labels { return s.labels }
func (s boundedSeries) Release()              {}

func (s boundedSeries) Decode(dst *Samples) error {
	cols := xorcolumn.Columns{T: dst.T[:0], V: dst.V[:0]}
	for i := range s.chunks {
		if s.chunks[i].MaxTime < s.hints.Start || s.chunks[i].MinTime > s.hints.End {
			continue
		}
		if err := cols.AppendXOR(s.chunks[i].Chunk.Bytes()); err != nil {
			return err
		}
	}
	dst.T, dst.V, dst.H = cols.T, cols.V, nil
	return nil
}

// The other half of chunkStorage is a queryable of Prometheus's engine.
func (s *chunkStorage) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
		var list []storage.Series
		for i := range s.series {
			cs := &s.series[i]
			list = append(list, &storage.SeriesEntry{Lset: cs.labels, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
				return &chunkIterator{Iterator: chunkenc.NewNopIterator(), chunks: cs.chunks}
			}})
		}
		return &listSet{series: list, i: -1}
	}}, nil
}

type listSet struct {
	series []storage.Series
	i      int
}

func (s *listSet) Next() bool                        { s.i++; return s.i < len(s.series) }
func (s *listSet) At() storage.Series                { return s.series[s.i] }
func (s *listSet) Err() error                        { return nil }
func (s *listSet) Warnings() annotations.Annotations { return nil }

// chunkIterator iterates over the samples of chunks.
type chunkIterator struct {
	chunkenc.Iterator
	chunks []chunks.Meta
	reuse  chunkenc.Iterator
}

func (it *chunkIterator) Next() chunkenc.ValueType {
	for {
		if t := it.Iterator.Next(); t != chunkenc.ValNone || len(it.chunks) == 0 {
			return t
		}
		it.open()
	}
}

func (it *chunkIterator) open() {
	it.reuse = it.chunks[0].Chunk.Iterator(it.reuse)
	it.Iterator, it.chunks = it.reuse, it.chunks[1:]
}

func (it *chunkIterator) Seek(t int64) chunkenc.ValueType {
	if v := it.Iterator.Seek(t); v != chunkenc.ValNone {
		return v
	}
	for len(it.chunks) > 0 {
		if it.chunks[0].MaxTime < t {
			it.chunks = it.chunks[1:]
			continue
		}
		it.open()
		if v := it.Iterator.Seek(t); v != chunkenc.ValNone {
			return v
		}
	}
	return chunkenc.ValNone
}

// cpu is the CPU time that the process has used.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDashboards compares the CPU of queries with that of Prometheus's engine
// over the same chunks.
func BenchmarkDashboards(b *testing.B) {
	s := newChunkStorage(b, 1000)
	e := testEngine(b)
	for _, expr := range []string{
		`sum by (service,cluster)(rate(http_requests_total[5m]))`,
		`sum(http_requests_total)`,
		`max by (cluster)(max_over_time(http_requests_total[10m]))`,
		`avg by (cluster)(avg_over_time(http_requests_total[1h]))`,
		`topk(5, increase(http_requests_total[5m]))`,
		`quantile by (cluster)(0.9, irate(http_requests_total[5m]))`,
		`http_requests_total`,
	} {
		for _, instant := range []bool{false, true} {
			name := expr
			step := time.Minute
			end := time.UnixMilli(benchDay)
			start := time.UnixMilli(0)
			if instant {
				name += " instant"
				step, start = 0, end
			}
			b.Run(name, func(b *testing.B) { benchQuery(b, s, testQuery(b, e, s, expr, start, end, step)) })
		}
	}
}

func benchQuery(b *testing.B, s *chunkStorage, q promql.Query) {
	defer q.Close()
	p, err := Compile(q.Statement().(*parser.EvalStmt), Options{SubqueryInterval: testOptions().SubqueryInterval})
	require.NoError(b, err)
	var before, after runtime.MemStats
	b.ResetTimer()
	runtime.ReadMemStats(&before)
	begin := cpu(b)
	for b.Loop() {
		_, err := p.Exec(b.Context(), s)
		require.NoError(b, err)
	}
	ours := (cpu(b) - begin) / time.Duration(b.N)
	runtime.ReadMemStats(&after)
	b.StopTimer()
	begin = cpu(b)
	require.NoError(b, q.Exec(b.Context()).Err)
	theirs := cpu(b) - begin
	b.ReportMetric(float64(ours.Microseconds())/1000, "cpu-ms/op")
	b.ReportMetric(float64(theirs.Microseconds())/1000, "engine-cpu-ms")
	b.ReportMetric(float64(ours)/float64(theirs), "of-engine")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N)/float64(len(s.series)), "allocs/series")
}
