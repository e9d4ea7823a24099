package query

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// replicaChunks are counters scraped every 15 s for a day, in chunks of 120
// samples. The second replica scrapes a little later.
func replicaChunks(t testing.TB, series, replica int) [][]storeapi.Chunk {
	out := make([][]storeapi.Chunk, series)
	for i := range out {
		v := float64(replica)
		var cur []point
		for j := range int64(5760) {
			v += float64((i+int(j))%7) * 1.5
			cur = append(cur, point{j*15000 + int64(replica*4321), v})
			if len(cur) == 120 {
				out[i] = append(out[i], xor(t, cur...))
				cur = cur[:0]
			}
		}
	}
	return out
}

func benchLabels(i int) labels.Labels {
	return labels.FromStrings("__name__", "x", "cluster", fmt.Sprint(i%4), "instance", fmt.Sprintf("%06d", i), "service", fmt.Sprint(i%20))
}

// replicaStore announces the series of a replica.
type replicaStore struct {
	*memory
	replica string
}

func (s replicaStore) Info() storeapi.Info {
	return storeapi.Info{
		Component: "sidecar", MinTime: 0, MaxTime: 24 * 3600 * 1000,
		LabelSets: []labels.Labels{labels.FromStrings("replica", s.replica)},
	}
}

// globalQuery is a dashboard's query over a day.
const globalQuery = "sum by (service,cluster) (rate(x[5m]))"

// BenchmarkGlobalQuery evaluates a dashboard's range query over a day of 4,000 series of an
// HA pair. Two stores send their chunks through gRPC to a querier, which merges them and
// answers over HTTP. The ratio is the CPU of all that to the CPU of Prometheus's engine over
// one replica as Prometheus's storage would hand it over. "own" is the query as users get
// it; "prometheus-engine" has Prometheus's engine over the querier's storage, which
// evaluates the expressions that the querier's own evaluator does not know.
func BenchmarkGlobalQuery(b *testing.B) {
	const n = 4000
	var endpoints []string
	plain := &memory{}
	for replica := range 2 {
		s := replicaStore{&memory{}, fmt.Sprint(replica)}
		for i, chunks := range replicaChunks(b, n, replica) {
			lset := labels.NewBuilder(benchLabels(i)).Set("replica", s.replica).Labels()
			s.series = append(s.series, storeapi.Series{Labels: lset, Chunks: chunks})
			if replica == 0 {
				plain.series = append(plain.series, storeapi.Series{Labels: benchLabels(i), Chunks: chunks})
			}
		}
		endpoints = append(endpoints, "--endpoint="+serveStore(b, s))
	}
	engine := promqltest.NewTestEngine(b, false, 0, 1<<30)
	evaluate := func(q storage.Queryable) {
		qry, err := engine.NewRangeQuery(b.Context(), q, nil, globalQuery, time.Unix(300, 0), time.Unix(86000, 0), time.Minute)
		require.NoError(b, err)
		res := qry.Exec(b.Context())
		require.NoError(b, res.Err)
		require.Len(b, res.Value.(promql.Matrix), 20)
		qry.Close()
	}
	q := startQuerier(b, append(endpoints, "--query.replica-label=replica")...)
	defaults := queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}}
	for name, run := range map[string]func(){
		"own": func() {
			a := q.get("/api/v1/query_range", "query", globalQuery, "start", "300", "end", "86000", "step", "60")
			require.Equal(b, 200, a.code, a.Error)
			require.Empty(b, a.Warnings)
			require.Equal(b, 20, strings.Count(string(a.Data), `"metric"`))
		},
		"prometheus-engine": func() { evaluate(NewQueryable(q.q.fanout, QueryableConfig{Defaults: defaults})) },
	} {
		b.Run(name, func(b *testing.B) {
			var here, limit time.Duration
			for b.Loop() {
				start := cpuTime(b)
				evaluate(plainQueryable{plain})
				middle := cpuTime(b)
				run()
				here, limit = here+cpuTime(b)-middle, limit+middle-start
			}
			b.ReportMetric(here.Seconds()*1000/float64(b.N), "cpu-ms")
			b.ReportMetric(float64(here)/float64(limit), "ratio")
		})
	}
}

// cpuTime is the CPU time that this process has used.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plainQueryable hands chunks to the engine as Prometheus's own storage does.
type plainQueryable struct{ m *memory }

func (p plainQueryable) Querier(_, _ int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
		var all []storage.Series
		for _, s := range p.m.series {
			all = append(all, &storage.SeriesEntry{Lset: s.Labels, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
				return &plainIterator{chunks: s.Chunks}
			}})
		}
		return &listSet{all: all}
	}}, nil
}

type listSet struct {
	storage.SeriesSet
	all []storage.Series
	i   int
}

func (l *listSet) Next() bool                        { l.i++; return l.i <= len(l.all) }
func (l *listSet) At() storage.Series                { return l.all[l.i-1] }
func (l *listSet) Err() error                        { return nil }
func (l *listSet) Warnings() annotations.Annotations { return nil }

type plainIterator struct {
	chunkenc.Iterator
	chunks []storeapi.Chunk
}

func (p *plainIterator) Next() chunkenc.ValueType {
	for {
		if p.Iterator != nil {
			if typ := p.Iterator.Next(); typ != chunkenc.ValNone {
				return typ
			}
		}
		if len(p.chunks) == 0 {
			return chunkenc.ValNone
		}
		c, err := chunkenc.FromData(p.chunks[0].Raw.Encoding, p.chunks[0].Raw.Bytes)
		if err != nil {
			return chunkenc.ValNone
		}
		p.Iterator, p.chunks = c.Iterator(p.Iterator), p.chunks[1:]
	}
}

func (p *plainIterator) Seek(t int64) chunkenc.ValueType {
	if p.Iterator == nil && p.Next() == chunkenc.ValNone {
		return chunkenc.ValNone
	}
	for {
		if typ := p.Iterator.Seek(t); typ != chunkenc.ValNone {
			return typ
		}
		if len(p.chunks) == 0 {
			return chunkenc.ValNone
		}
		p.Next()
	}
}
