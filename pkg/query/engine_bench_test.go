package query

import (
	"fmt"
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

// BenchmarkGlobalQuery evaluates a dashboard's range query over a day of an HA
// pair, and over one replica as Prometheus's storage would hand it to the
// engine: the ratio is the additional cost of the querier.
func BenchmarkGlobalQuery(b *testing.B) {
	const n = 200
	a, other := replicaChunks(b, n, 0), replicaChunks(b, n, 1)
	pair, one := &memory{}, &memory{}
	for i := range n {
		one.series = append(one.series, storeapi.Series{Labels: benchLabels(i), Chunks: a[i]})
		for replica, chunks := range [][]storeapi.Chunk{a[i], other[i]} {
			lset := labels.NewBuilder(benchLabels(i)).Set("replica", fmt.Sprint(replica)).Labels()
			pair.series = append(pair.series, storeapi.Series{Labels: lset, Chunks: chunks})
		}
	}
	engine := promqltest.NewTestEngine(b, false, 0, 1<<30)
	params := queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}}
	run := func(b *testing.B, q storage.Queryable) time.Duration {
		b.ReportAllocs()
		for b.Loop() {
			qry, err := engine.NewRangeQuery(b.Context(), q, nil, "sum by (service,cluster) (rate(x[5m]))", time.Unix(300, 0), time.Unix(86000, 0), time.Minute)
			require.NoError(b, err)
			res := qry.Exec(b.Context())
			require.NoError(b, res.Err)
			require.Len(b, res.Value.(promql.Matrix), 20)
			qry.Close()
		}
		return b.Elapsed() / time.Duration(b.N)
	}
	var limit time.Duration
	b.Run("prometheus", func(b *testing.B) { limit = run(b, plainQueryable{one}) })
	for name, m := range map[string]*memory{"one-replica": one, "two-replicas": pair} {
		b.Run(name, func(b *testing.B) {
			took := run(b, NewQueryable(m, QueryableConfig{Defaults: params}))
			b.ReportMetric(float64(took)/float64(limit), "ratio")
		})
	}
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
