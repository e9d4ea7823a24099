package compact_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
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

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// resolutionStore answers queries from the blocks of one resolution.
type resolutionStore struct{ series map[string]*storeapi.Series }

func newResolutionStore(t testing.TB, b bucket.Bucket, resolution int64) *resolutionStore {
	t.Helper()
	s := &resolutionStore{series: map[string]*storeapi.Series{}}
	v := poll(t, b)
	for id, m := range v.Metas {
		if m.Resolution() != resolution || v.Deletion[id] != nil {
			continue
		}
		each(t, b, id, func(lset labels.Labels, chks []chunks.Meta) {
			one := s.series[lset.String()]
			if one == nil {
				one = &storeapi.Series{Labels: lset}
				s.series[lset.String()] = one
			}
			for _, c := range chks {
				one.Chunks = append(one.Chunks, chunkOf(t, c))
			}
		})
	}
	for _, one := range s.series {
		slices.SortFunc(one.Chunks, func(a, b storeapi.Chunk) int { return int(a.MinTime - b.MinTime) })
	}
	return s
}

func chunkOf(t testing.TB, c chunks.Meta) storeapi.Chunk {
	data := slices.Clone(c.Chunk.Bytes())
	out := storeapi.Chunk{MinTime: c.MinTime, MaxTime: c.MaxTime}
	if c.Chunk.Encoding() != aggr.Encoding {
		out.Raw = storeapi.Data{Encoding: c.Chunk.Encoding(), Bytes: data}
		return out
	}
	a, err := aggr.Decode(data)
	require.NoError(t, err)
	out.Aggr = &a
	return out
}

func (s *resolutionStore) Querier(int64, int64) (storage.Querier, error) { return s, nil }
func (s *resolutionStore) Close() error                                  { return nil }
func (s *resolutionStore) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}
func (s *resolutionStore) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (s *resolutionStore) Select(_ context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	var out []storage.Series
	keys := make([]string, 0, len(s.series))
	for key := range s.series {
		keys = append(keys, key)
	}
	slices.Sort(keys)
next:
	for _, key := range keys {
		one := s.series[key]
		for _, m := range ms {
			if !m.Matches(one.Labels.Get(m.Name)) {
				continue next
			}
		}
		out = append(out, &storage.SeriesEntry{Lset: one.Labels, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
			return aggr.SeriesIterator(one.Chunks, aggr.ForFunc(hints.Func))
		}})
	}
	return &seriesList{list: out}
}

type seriesList struct {
	list []storage.Series
	pos  int
}

func (l *seriesList) Next() bool                        { l.pos++; return l.pos <= len(l.list) }
func (l *seriesList) At() storage.Series                { return l.list[l.pos-1] }
func (l *seriesList) Err() error                        { return nil }
func (l *seriesList) Warnings() annotations.Annotations { return nil }

// Raw, 5 m and 1 h data answer the same queries.
func TestDownsample_AnswersAsRawData(t *testing.T) {
	var s strings.Builder
	const days = 14
	for d := range days/2 + 2 {
		fmt.Fprintf(&s, "block d%02d range=%dh..%dh labels={cluster=\"eu\"}\n", d, 48*d, 48*d+48)
		// A gauge that saws by 480 a day, a counter that starts again with every
		// block, and one that never does. The histogram grows by 5 each minute.
		for h := range 2 {
			from := 48*d + 24*h
			fmt.Fprintf(&s, "  gauge{h=\"%d\"} %dh..%dh/1m:0+0.333\n", h, from, from+24)
		}
		fmt.Fprintf(&s, "  resets_total %dh..%dh/1m:3+2\n", 48*d, 48*d+48)
		fmt.Fprintf(&s, "  steady_total %dh..%dh/1m:%d+3\n", 48*d, 48*d+48, 3*60*48*d)
		fmt.Fprintf(&s, "  lat %dh..%dh/1m:h%d+1\n", 48*d, 48*d+48, 60*48*d)
	}
	b := blocktest.Bucket(t, s.String())
	require.NoError(t, newCompactor(t, b).RunOnce(context.Background()))
	raw := newResolutionStore(t, b, block.ResolutionRaw)
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e8, Timeout: time.Minute, LookbackDelta: time.Hour, Parser: parser.NewParser(parser.Options{})})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	// A series begins in coarse data when its first window is over: the times
	// asked for are not those at which series begin.
	ask := func(st storage.Queryable, q string) promql.Matrix {
		t.Helper()
		qry, err := engine.NewRangeQuery(context.Background(), st, nil, q, time.Unix(2*86400+5400, 0), time.Unix(13*86400, 0), 3*time.Hour)
		require.NoError(t, err)
		res := qry.Exec(context.Background())
		require.NoError(t, res.Err)
		m, err := res.Matrix()
		require.NoError(t, err)
		return m
	}
	for _, res := range []struct {
		ms      int64
		minutes float64
	}{{block.Resolution5m, 5}, {block.Resolution1h, 60}} {
		coarse := newResolutionStore(t, b, res.ms)
		require.Len(t, coarse.series, len(raw.series))
		for _, q := range []struct {
			expr  string
			bound float64 // by how much a window may differ from a sample
		}{
			{`rate(steady_total[1d])`, 3.0 / 60 * 0.002 * res.minutes},
			{`increase(steady_total[12h])`, 3 * (1 + res.minutes) / 3},
			{`increase(resets_total[2d])`, 2 * (1 + res.minutes)},
			{`sum(gauge)`, 0.333 * res.minutes * 2},
			{`max_over_time(gauge[1d])`, 0.333 * res.minutes},
			{`min_over_time(gauge[1d])`, 0.333 * res.minutes},
			{`avg_over_time(gauge[1d])`, 0.333 * res.minutes},
			{`sum_over_time(gauge[1d])`, 480 * res.minutes},
			{`histogram_count(increase(lat[1d]))`, 9 * (1 + res.minutes)},
			{`histogram_quantile(0.9, rate(lat[1d]))`, 0.02},
		} {
			want, got := ask(raw, q.expr), ask(coarse, q.expr)
			requireClose(t, want, got, q.bound, fmt.Sprintf("%s at %d min", q.expr, int(res.minutes)))
		}
	}
}

func requireClose(t *testing.T, want, got promql.Matrix, bound float64, what string) {
	t.Helper()
	require.NotEmpty(t, want, what)
	require.Len(t, got, len(want), what)
	for i := range want {
		require.Equal(t, want[i].Metric, got[i].Metric, what)
		require.Len(t, got[i].Floats, len(want[i].Floats), what)
		for k, p := range want[i].Floats {
			require.LessOrEqual(t, math.Abs(p.F-got[i].Floats[k].F), bound, "%s, %s at %d: %v and %v", what, want[i].Metric, p.T, p.F, got[i].Floats[k].F)
		}
	}
}
