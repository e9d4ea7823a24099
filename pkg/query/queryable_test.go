package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// memory is a store that returns given series, and keeps the requests.
type memory struct {
	series   []storeapi.Series
	warnings storeapi.Warnings
	err      error

	mtx   sync.Mutex
	asked []*storeapi.Request
	open  int
}

func (m *memory) note(r *storeapi.Request, open int) {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	m.open += open
	if r != nil {
		m.asked = append(m.asked, r)
	}
}

func (m *memory) Info() storeapi.Info { return storeapi.Info{} }

func (m *memory) Select(_ context.Context, r *storeapi.Request) storeapi.SeriesSet {
	m.note(r, 1)
	return &memorySet{SeriesSet: storeapi.NewSliceSet(m.series), m: m}
}

func (m *memory) LabelNames(_ context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	m.note(r, 0)
	return []string{"a"}, m.warnings, m.err
}

func (m *memory) LabelValues(_ context.Context, _ string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	m.note(r, 0)
	return []string{"v"}, m.warnings, m.err
}

type memorySet struct {
	storeapi.SeriesSet
	m *memory
}

func (s *memorySet) Warnings() storeapi.Warnings { return s.m.warnings }
func (s *memorySet) Err() error                  { return s.m.err }
func (s *memorySet) Close() error                { s.m.note(nil, -1); return nil }

// point is a sample; see xor.
type point struct {
	t int64
	v float64
}

func xor(t testing.TB, points ...point) storeapi.Chunk {
	t.Helper()
	return storeapi.Chunk{MinTime: points[0].t, MaxTime: points[len(points)-1].t, Raw: data(t, points...)}
}

func data(t testing.TB, points ...point) storeapi.Data {
	t.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, p := range points {
		app.Append(0, p.t, p.v)
	}
	return storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: c.Bytes()}
}

// read selects everything and writes it as lines.
func read(t testing.TB, m storeapi.Store, p queryopts.Options, hints *storage.SelectHints, mint, maxt int64) string {
	t.Helper()
	return readWith(t, m, QueryableConfig{Defaults: p}, hints, mint, maxt)
}

func readWith(t testing.TB, m storeapi.Store, cfg QueryableConfig, hints *storage.SelectHints, mint, maxt int64) string {
	t.Helper()
	q, err := NewQueryable(m, cfg).Querier(mint, maxt)
	require.NoError(t, err)
	set := q.Select(t.Context(), true, hints, labels.MustNewMatcher(labels.MatchEqual, "a", "b"))
	var b strings.Builder
	for set.Next() {
		s := set.At()
		b.WriteString(s.Labels().String())
		it := s.Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			ts, v := it.At()
			if value.IsStaleNaN(v) {
				fmt.Fprintf(&b, " %d:stale", ts)
				continue
			}
			fmt.Fprintf(&b, " %d:%g", ts, v)
		}
		require.NoError(t, it.Err())
		b.WriteString("\n")
	}
	require.NoError(t, set.Err())
	require.NoError(t, q.Close())
	return b.String()
}

var deduping = queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}}

func TestSamples_AreClippedToRange(t *testing.T) {
	m := &memory{series: []storeapi.Series{{
		Labels: labels.FromStrings("a", "b"),
		Chunks: []storeapi.Chunk{xor(t, point{0, 0}, point{10, 1}, point{20, 2}), xor(t, point{30, 3}, point{40, 4})},
	}}}
	for _, p := range []queryopts.Options{{}, deduping} {
		require.Equal(t, "{a=\"b\"} 10:1 20:2 30:3\n", read(t, m, p, nil, 10, 30))
		require.Equal(t, "{a=\"b\"}\n", read(t, m, p, nil, 41, 50))
		require.Equal(t, "{a=\"b\"} 40:4\n", read(t, m, p, nil, 31, 50))
	}
	require.Zero(t, m.open)
}

func TestPartsOfASeries_AreJoined(t *testing.T) {
	first, second := xor(t, point{0, 0}, point{10, 1}), xor(t, point{20, 2}, point{30, 3})
	l := labels.FromStrings("a", "b")
	m := &memory{series: []storeapi.Series{
		{Labels: l, Chunks: []storeapi.Chunk{second}},
		{Labels: l, Chunks: []storeapi.Chunk{first, second}},
		{Labels: labels.FromStrings("a", "c"), Chunks: []storeapi.Chunk{first}},
	}}
	require.Equal(t, "{a=\"b\"} 0:0 10:1 20:2 30:3\n{a=\"c\"} 0:0 10:1\n", read(t, m, queryopts.Options{}, nil, 0, 100))
}

// Overlapping chunks of equal full labels are one stream, of which all samples
// count, also when replicas are merged; and so are those of the nodes of a ring.
func TestSelect_OneSourceKeepsEverySample(t *testing.T) {
	first := []storeapi.Chunk{xor(t, point{0, 0}, point{20, 2}, point{30, 3})}
	second := []storeapi.Chunk{xor(t, point{10, 1}, point{20, 2}, point{40, 4})}
	want := " 0:0 10:1 20:2 30:3 40:4\n"
	one := func(names ...string) labels.Labels {
		return labels.FromStrings(append([]string{"a", "b"}, names...)...)
	}
	for name, lsets := range map[string][2]labels.Labels{
		"equal labels":             {one(), one()},
		"equal labels and replica": {one("replica", "r1"), one("replica", "r1")},
		"nodes of a ring":          {one("receive_replica", "0"), one("receive_replica", "1")},
		"nodes of a declared ring": {one("node", "0"), one("node", "1")},
		"a ring beside replicas":   {one("receive_replica", "0", "replica", "r1"), one("receive_replica", "1", "replica", "r1")},
	} {
		m := &memory{series: []storeapi.Series{{Labels: lsets[0], Chunks: first}, {Labels: lsets[1], Chunks: second}}}
		require.Equal(t, `{a="b"}`+want, readWith(t, m, QueryableConfig{Defaults: deduping, RingLabels: []string{"node", "receive_replica"}}, nil, 0, 100), name)
	}
	m := &memory{series: []storeapi.Series{{Labels: one("replica", "r1"), Chunks: first}, {Labels: one("replica", "r1"), Chunks: second}}}
	require.Equal(t, `{a="b", replica="r1"}`+want, read(t, m, queryopts.Options{}, nil, 0, 100))
}

// Removing replica labels changes the order of series; the answer is in order,
// and a series has all its replicas, wherever they stand in the stream.
func TestSelect_SortsByTheLabelsOfTheAnswer(t *testing.T) {
	at := func(ls ...string) storeapi.Series {
		return storeapi.Series{Labels: labels.FromStrings(ls...), Chunks: []storeapi.Chunk{xor(t, point{0, 1})}}
	}
	m := &memory{series: []storeapi.Series{
		at("a", "1"),
		at("a", "1", "replica", "x", "z", "1"), at("a", "1", "replica", "x", "z", "2"),
		at("a", "1", "replica", "y"), at("a", "1", "replica", "y", "z", "1"),
		at("a", "1", "z", "2"),
	}}
	require.Equal(t, "{a=\"1\"} 0:1\n{a=\"1\", z=\"1\"} 0:1\n{a=\"1\", z=\"2\"} 0:1\n", read(t, m, deduping, nil, 0, 100))
	// A limit counts the series of the answer, not replicas.
	require.Equal(t, "{a=\"1\"} 0:1\n{a=\"1\", z=\"1\"} 0:1\n", read(t, m, deduping, &storage.SelectHints{End: 100, Limit: 2}, 0, 100))
	require.Zero(t, m.asked[1].Limit, "stores would count replicas")
}

// The labels of a ring are removed whichever replica labels a request names.
func TestSelect_RingLabelsAreAlwaysRemoved(t *testing.T) {
	lset := func(node, replica string) labels.Labels {
		return labels.FromStrings("a", "b", "receive_replica", node, "replica", replica)
	}
	chunks := []storeapi.Chunk{xor(t, point{0, 0})}
	m := &memory{series: []storeapi.Series{{Labels: lset("0", "x"), Chunks: chunks}, {Labels: lset("1", "x"), Chunks: chunks}, {Labels: lset("1", "y"), Chunks: chunks}}}
	cfg := QueryableConfig{RingLabels: []string{"receive_replica"}}
	for want, p := range map[string]queryopts.Options{
		"{a=\"b\"} 0:0\n": {Dedup: true, ReplicaLabels: []string{"replica"}},
		"{a=\"b\", replica=\"x\"} 0:0\n{a=\"b\", replica=\"y\"} 0:0\n": {Dedup: true},
	} {
		cfg.Defaults = p
		require.Equal(t, want, readWith(t, m, cfg, nil, 0, 100))
		require.Equal(t, want, readWith(t, m, cfg, &storage.SelectHints{End: 100, Func: "sum"}, 0, 100))
		require.Contains(t, selectRequest(cfg.options(t.Context()), 0, 100, &storage.SelectHints{Func: "series"}, nil).WithoutReplicaLabels, "receive_replica")
	}
	cfg.Defaults = queryopts.Options{}
	require.Equal(t, 3, strings.Count(readWith(t, m, cfg, nil, 0, 100), "receive_replica"))
}

// pairOf is a series of two replicas.
func pairOf(a, b []storeapi.Chunk) *memory {
	return &memory{series: []storeapi.Series{
		{Labels: labels.FromStrings("a", "b", "replica", "r1"), Chunks: a},
		{Labels: labels.FromStrings("a", "b", "replica", "r2"), Chunks: b},
	}}
}

// A rule is evaluated at the same millisecond by both servers of a pair, over
// the data of each: the replicas are not mixed, although their times are equal.
func TestSelect_RulesOfAPairAreNotMixed(t *testing.T) {
	var a, b []point
	for k := range int64(240) {
		if k%60 != 20 {
			a = append(a, point{k * 30000, 1e6 + 3000*float64(k)})
		}
		if k%60 != 50 {
			b = append(b, point{k * 30000, 0.99 * (1e6 + 3000*float64(k))})
		}
	}
	var values strings.Builder
	values.WriteString("{a=\"b\"}")
	for k := range int64(240) {
		share := 1.0
		if k%60 == 20 {
			share = 0.99 // of the other server
		}
		fmt.Fprintf(&values, " %d:%g", k*30000, share*(1e6+3000*float64(k)))
	}
	values.WriteString("\n")
	m := pairOf([]storeapi.Chunk{xor(t, a[:100]...), xor(t, a[100:]...)}, []storeapi.Chunk{xor(t, b...)})
	require.Equal(t, values.String(), read(t, m, deduping, &storage.SelectHints{End: 1e9}, 0, 1e9))
	// Of a counter the lost evaluations are filled in, with the growth that the
	// other server has seen.
	for _, fn := range []string{"rate", "resets", "increase", "irate"} {
		fields := strings.Fields(read(t, m, deduping, &storage.SelectHints{End: 1e9, Func: fn}, 0, 1e9))[1:]
		require.Len(t, fields, 240, fn)
		last := 1e6 - 3000
		for i, f := range fields {
			var at int64
			var v float64
			_, err := fmt.Sscanf(f, "%d:%g", &at, &v)
			require.NoError(t, err)
			require.Equal(t, int64(i)*30000, at)
			require.InDelta(t, 2985, v-last, 25, "%s at %d", fn, at)
			last = v
		}
	}
}

// A change of replica is no counter reset, a real one stays one, and a stale
// marker of one replica hides nothing that the other one has.
func TestSelect_CountersOverReplicas(t *testing.T) {
	stale := math.Float64frombits(value.StaleNaN)
	m := pairOf(
		[]storeapi.Chunk{xor(t, point{0, 100}, point{15000, 110}, point{30000, 5}, point{45000, 6}, point{60000, stale})},
		[]storeapi.Chunk{xor(t, point{1000, 90}, point{16000, 100}, point{31000, 2}, point{46000, 3}, point{61000, 4}, point{76000, 5}, point{91000, 6}, point{106000, 7})},
	)
	// Beyond 45000 the counter grows as the second replica does.
	got := read(t, m, deduping, &storage.SelectHints{End: 200000, Func: "rate", Range: 60000}, 0, 200000)
	require.Equal(t, "{a=\"b\"} 0:100 15000:110 30000:5 45000:6 61000:7.066666666666666 76000:8.066666666666666 91000:9.066666666666666 106000:10.066666666666666\n", got)
	got = read(t, m, deduping, &storage.SelectHints{End: 200000, Func: "max_over_time"}, 0, 200000)
	require.Equal(t, "{a=\"b\"} 0:100 15000:110 30000:5 45000:6 61000:4 76000:5 91000:6 106000:7\n", got)
}

func TestDownsampledData_UsesAggregateOfFunction(t *testing.T) {
	aggr := storeapi.Chunk{MinTime: 0, MaxTime: 600, Aggr: &storeapi.Aggregates{
		Count:   data(t, point{300, 2}, point{600, 4}),
		Sum:     data(t, point{300, 10}, point{600, 40}),
		Min:     data(t, point{300, 1}, point{600, 2}),
		Max:     data(t, point{300, 9}, point{600, 20}),
		Counter: data(t, point{0, 1}, point{300, 5}, point{600, 9}, point{600, 2}),
	}}
	raw := xor(t, point{700, 3}, point{800, 1})
	m := &memory{series: []storeapi.Series{{Labels: labels.FromStrings("a", "b"), Chunks: []storeapi.Chunk{aggr, raw}}}}
	for fn, want := range map[string]string{
		"":              "300:5 600:10 700:3 800:1",
		"sum":           "300:5 600:10 700:3 800:1",
		"avg_over_time": "300:5 600:10 700:3 800:1",
		"sum_over_time": "300:10 600:40 700:3 800:1",
		"count":         "300:2 600:4 700:3 800:1",
		"min_over_time": "300:1 600:2 700:3 800:1",
		"max":           "300:9 600:20 700:3 800:1",
		// The true last value 2 of the first chunk says that 3 is one more; then
		// comes a reset to 1.
		"rate": "0:1 300:5 600:9 700:10 800:11",
	} {
		for _, p := range []queryopts.Options{{}, deduping} {
			require.Equal(t, "{a=\"b\"} "+want+"\n", read(t, m, p, &storage.SelectHints{End: 1000, Func: fn}, 0, 1000), fn)
		}
	}
}

func TestRequests_CarrySelectorAndOptions(t *testing.T) {
	match := func(n, v string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, n, v) }
	p := queryopts.Options{
		Dedup: true, ReplicaLabels: []string{"r"}, MaxSourceResolution: 3600000, PartialResponse: true,
		Shard: &storeapi.Shard{Index: 1, Total: 3}, Enforced: match("tenant", "red"),
		StoreMatchers: [][]*labels.Matcher{{match("__address__", "x")}},
	}
	ms := []*labels.Matcher{match("tenant", "blue"), match("a", "b")}
	r := selectRequest(p, 0, 100, &storage.SelectHints{Start: 10, End: 90, Func: "rate", Range: 600000, Step: 5, Grouping: []string{"x"}, By: true, Limit: 7}, ms)
	require.Equal(t, []int64{10, 90}, []int64{r.MinTime, r.MaxTime})
	require.Equal(t, int64(300000), r.MaxResolution, "half of the range")
	require.Equal(t, []storeapi.Aggregate{storeapi.AggregateCounter}, r.Aggregates)
	require.Empty(t, r.WithoutReplicaLabels, "they tell the sources apart")
	require.Equal(t, `[a="b" tenant="red"]`, fmt.Sprint(r.Matchers))
	require.Equal(t, `[tenant="blue" a="b"]`, fmt.Sprint(ms), "the caller's matchers stay")
	require.Zero(t, r.Limit, "stores would count replicas")
	require.Equal(t, &storeapi.Shard{Index: 1, Total: 3, Labels: []string{"r"}}, r.Shard, "replicas are not in the hash")
	require.Equal(t, &storeapi.Hints{StepMillis: 5, Func: "rate", RangeMillis: 600000, Grouping: []string{"x"}, By: true}, r.Hints)
	require.Equal(t, storeapi.PartialWarn, r.Partial)

	p.Shard = &storeapi.Shard{Index: 1, Total: 3, By: true, Labels: []string{"r", "x"}}
	require.Equal(t, []string{"x"}, selectRequest(p, 0, 100, nil, ms).Shard.Labels)

	r = selectRequest(p, 0, 100, &storage.SelectHints{Func: "series", Limit: 7}, ms)
	require.Equal(t, 7, r.Limit)
	require.True(t, r.SkipChunks)
	require.Equal(t, int64(math.MaxInt64), r.MaxResolution)
	require.Equal(t, []string{"r"}, r.WithoutReplicaLabels)

	r = labelsRequest(queryopts.Options{Dedup: true, ReplicaLabels: []string{"r"}}, 0, 100, &storage.LabelHints{Limit: 5}, nil)
	require.Empty(t, r.WithoutReplicaLabels)
	require.Equal(t, storeapi.PartialAbort, r.Partial)
	require.Equal(t, 5, r.Limit)
}

func TestWarningsAndErrors_ReachCaller(t *testing.T) {
	m := &memory{warnings: storeapi.Warnings{{Source: "b:1", Text: "store b:1 is missing"}}}
	q, err := NewQueryable(m, QueryableConfig{}).Querier(0, 100)
	require.NoError(t, err)
	ctx, report := storeapi.NewReportContext(t.Context())
	// The API asks for warnings before it reads.
	require.Len(t, q.Select(ctx, true, nil).Warnings(), 1)
	_, ws, err := q.LabelNames(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"store b:1 is missing"}, slices.Collect(func(yield func(string) bool) {
		for w := range ws {
			yield(w)
		}
	}))
	missing, _ := report.Missing()
	require.Len(t, missing, 1)
	require.Equal(t, "b:1", missing[0].Store)
	m.err = errors.New("boom")
	require.ErrorContains(t, q.Select(ctx, true, nil).Err(), "boom")
	_, _, err = q.LabelValues(ctx, "x", nil)
	require.ErrorContains(t, err, "boom")
	require.NoError(t, q.Close())
	require.Error(t, q.Select(ctx, true, nil).Err())
	require.Zero(t, m.open)
}

func TestClosedBeforeRead_ClosesAllSets(t *testing.T) {
	m := &memory{series: []storeapi.Series{{Labels: labels.FromStrings("a", "b")}}}
	for range 100 {
		q, err := NewQueryable(m, QueryableConfig{MaxConcurrentSelects: 1}).Querier(0, 100)
		require.NoError(t, err)
		for range 5 {
			q.Select(t.Context(), true, nil)
		}
		require.NoError(t, q.Close())
	}
	require.Zero(t, m.open)
}

func TestChunkQuerier_ReturnsChunks(t *testing.T) {
	m := &memory{series: []storeapi.Series{{Labels: labels.FromStrings("a", "b"), Chunks: []storeapi.Chunk{xor(t, point{0, 0}, point{10, 1})}}}}
	q, err := NewQueryable(m, QueryableConfig{}).ChunkQuerier(0, 100)
	require.NoError(t, err)
	set := q.Select(t.Context(), true, nil)
	require.True(t, set.Next())
	it := set.At().Iterator(nil)
	require.True(t, it.Next())
	require.Equal(t, 2, it.At().Chunk.NumSamples())
	require.NoError(t, q.Close())
}
