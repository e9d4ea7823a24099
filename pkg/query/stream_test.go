package query

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// replicaStores are four stores with the series of two replicas and of a ring of two
// nodes. Some series have replica labels of their own, and one store knows only the
// order of full labels.
func replicaStores(t testing.TB, rnd *rand.Rand) storeapi.Store {
	var stores []storeapi.Store
	for i, ext := range []labels.Labels{
		labels.FromStrings("cluster", "a", "prometheus_replica", "r0"),
		labels.FromStrings("cluster", "a", "prometheus_replica", "r1"),
		labels.FromStrings("cluster", "b", "receive_replica", "n0"),
		labels.FromStrings("cluster", "b", "receive_replica", "n1"),
	} {
		data := storetest.Data{External: ext}
		seen := map[string]bool{}
		for range 150 {
			b := labels.NewBuilder(labels.FromStrings("__name__", fmt.Sprintf("m%d", rnd.Intn(2)), "a", "b"))
			for _, name := range []string{"instance", "job", "path", "prometheus_replica", "zone"} {
				if rnd.Intn(3) > 0 {
					b.Set(name, fmt.Sprint(rnd.Intn(3)))
				}
			}
			if l := b.Labels(); !seen[l.String()] {
				seen[l.String()] = true
				data.Series = append(data.Series, storetest.Series{Labels: l, Samples: storetest.Floats(int64(1000+i), 1000, 20+rnd.Intn(20))})
			}
		}
		f := storetest.NewFake(t, data)
		f.About.SupportsSortWithout = i != 1
		stores = append(stores, f)
	}
	return fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
}

func sel(name string, hints storage.SelectHints) eval.Selector {
	return eval.Selector{Hints: &hints, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", name)}}
}

func line(lset labels.Labels, s *eval.Samples) string {
	var b strings.Builder
	b.WriteString(lset.String())
	for i := range s.T {
		fmt.Fprintf(&b, " %d:%g", s.T[i], s.V[i])
	}
	return b.String()
}

// streamed decodes each series of a stream on another goroutine, some time later.
func streamed(t testing.TB, st eval.SeriesStream) []string {
	t.Helper()
	var (
		out   []string
		wg    sync.WaitGroup
		mtx   sync.Mutex
		batch []eval.Series
	)
	decode := func() {
		at := len(out)
		out = append(out, make([]string, len(batch))...)
		for i, s := range batch {
			wg.Go(func() {
				var samples eval.Samples
				err := s.Decode(&samples)
				text := line(s.Labels(), &samples)
				s.Release()
				mtx.Lock()
				defer mtx.Unlock()
				if err != nil {
					text += err.Error()
				}
				out[at+i] = text
			})
		}
		wg.Wait()
		batch = nil
	}
	for st.Next() {
		if batch = append(batch, st.At()); len(batch) == 7 {
			decode()
		}
	}
	decode()
	require.NoError(t, st.Err())
	return out
}

// TestStream_EqualsSelect compares with the selection that holds and sorts all series.
func TestStream_EqualsSelect(t *testing.T) {
	rnd := rand.New(rand.NewSource(21))
	several := 0
	for range 8 {
		store := replicaStores(t, rnd)
		for _, opts := range []queryopts.Options{
			{},
			{Dedup: true},
			{Dedup: true, ReplicaLabels: []string{"prometheus_replica"}},
			{Dedup: true, ReplicaLabels: []string{"prometheus_replica", "instance", "none"}},
			{Dedup: true, ReplicaLabels: []string{"zone", "cluster"}},
		} {
			cfg := QueryableConfig{Defaults: opts, RingLabels: []string{"receive_replica"}, Dedup: dedup.FuncPenalty}
			if !opts.Dedup {
				cfg.RingLabels = nil
			}
			q := NewQueryable(store, cfg)
			hints := storage.SelectHints{Start: 1500, End: 30_500, Func: "rate", Range: 5000}
			querier, err := q.Querier(hints.Start, hints.End)
			require.NoError(t, err)
			var want []string
			set := querier.Select(t.Context(), true, &hints, sel("m.*", hints).Matchers...)
			for set.Next() {
				var samples eval.Samples
				it := set.At().Iterator(nil)
				for it.Next() != chunkenc.ValNone {
					ts, v := it.At()
					samples.T, samples.V = append(samples.T, ts), append(samples.V, v)
				}
				require.NoError(t, it.Err())
				want = append(want, line(set.At().Labels(), &samples))
				several += len(set.At().(*series).sources) - 1
			}
			require.NoError(t, set.Err())
			require.NoError(t, querier.Close())
			st := q.streams().Select(t.Context(), sel("m.*", hints))
			require.Equal(t, want, streamed(t, st), "%+v", opts)
			require.NoError(t, st.Close())
		}
	}
	require.Greater(t, several, 1000)
}

// manyStore makes n series in each of two replicas while they are read.
type manyStore struct {
	storeapi.Store
	n     int
	chunk storeapi.Chunk
	// chunks is the number of chunks of a series.
	chunks int
	// err ends each answer after its series.
	err error
}

func (m *manyStore) Info() storeapi.Info {
	return storeapi.Info{Component: "debug", MaxTime: 1 << 60, SupportsWithoutReplicaLabels: true, SupportsSortWithout: true}
}

func (m *manyStore) Select(ctx context.Context, _ *storeapi.Request) storeapi.SeriesSet {
	return &manySet{SeriesSet: storeapi.EmptySet(), ctx: ctx, m: m}
}

type manySet struct {
	storeapi.SeriesSet
	ctx context.Context
	m   *manyStore
	i   int
	cur storeapi.Series
}

func (s *manySet) Next() bool {
	if s.i >= 2*s.m.n || s.ctx.Err() != nil {
		return false
	}
	s.cur.Labels = labels.FromStrings("__name__", "http_requests_total", "cluster", "eu", "handler", "/api/v1/query_range",
		"instance", fmt.Sprintf("10.1.%07d:9100", s.i/2), "job", "application", "namespace", "production",
		"pod", fmt.Sprintf("application-%08d-abcde", s.i/2), "prometheus_replica", fmt.Sprintf("r%d", s.i%2))
	s.cur.Chunks = s.cur.Chunks[:0]
	for i := range s.m.chunks {
		c := s.m.chunk
		c.MinTime, c.MaxTime = c.MinTime+int64(i)*1_800_000, c.MaxTime+int64(i)*1_800_000
		s.cur.Chunks = append(s.cur.Chunks, c)
	}
	s.i++
	return true
}

func (s *manySet) At() storeapi.Series { return s.cur }
func (s *manySet) Err() error {
	if s.m.err != nil {
		return s.m.err
	}
	return s.ctx.Err()
}

func newManyStore(t testing.TB, n, chunks int) *manyStore {
	c := storetest.Chunks(t, storetest.Floats(0, 15_000, 120), 120, chunkenc.EncXOR)[0]
	return &manyStore{n: n, chunk: c, chunks: chunks}
}

func replicaConfig() QueryableConfig {
	return QueryableConfig{Defaults: queryopts.Options{Dedup: true, ReplicaLabels: []string{"prometheus_replica"}, PartialResponse: true}}
}

// drained reads a stream and releases each series; it returns their number.
func drained(st eval.SeriesStream) (n int) {
	for st.Next() {
		n++
		st.At().Release()
	}
	return n
}

// TestStream_UnreadStreamBlocksNoOther opens more streams than may receive at once and
// reads them in turn, and one after the other in the reverse order.
func TestStream_UnreadStreamBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueryable(newManyStore(t, 2000, 2), replicaConfig())
		s := q.streams()
		hints := storage.SelectHints{Start: 0, End: 1 << 40}
		var open []eval.SeriesStream
		for range 5 {
			open = append(open, s.Select(t.Context(), sel("http.*", hints)))
		}
		for range 700 {
			require.True(t, open[0].Next())
			require.True(t, open[1].Next())
		}
		for i := 4; i >= 2; i-- {
			require.Equal(t, 2000, drained(open[i]))
		}
		require.Equal(t, 1300, drained(open[1]))
		for _, st := range open {
			require.NoError(t, st.Err())
			require.NoError(t, st.Close())
		}
	})
}

// withAccount returns a context with an account, and what ends it.
func withAccount(t testing.TB, b *memoryBudget, limits fetchLimits) (context.Context, func()) {
	a := &account{limits: limits, share: b.share("", nil)}
	return context.WithValue(t.Context(), accountKey{}, a), a.share.close
}

// TestStream_GivesMemoryBack compares the memory of the account with that of batches.
func TestStream_GivesMemoryBack(t *testing.T) {
	budget := newMemoryBudget(64<<20, nil)
	ctx, end := withAccount(t, budget, fetchLimits{})
	st := NewQueryable(newManyStore(t, 20_000, 6), replicaConfig()).streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
	require.Equal(t, 20_000, drained(st))
	require.NoError(t, st.Err())
	a := accountOf(ctx)
	require.Equal(t, int64(40_000), a.series)
	require.Equal(t, int64(6*40_000), a.chunks)
	require.Less(t, budget.peak, int64(4<<20))
	require.NoError(t, st.Close())
	require.Equal(t, budget.used, a.credit, "all that is taken is credit")
	end()
	require.Zero(t, budget.used)

	// Series that are not released count until the stream is closed.
	ctx, end = withAccount(t, budget, fetchLimits{})
	defer end()
	st = NewQueryable(newManyStore(t, 2000, 6), replicaConfig()).streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
	for st.Next() {
	}
	require.Greater(t, budget.used, int64(2000*2*6*100))
	require.NoError(t, st.Close())
	require.Equal(t, budget.used, accountOf(ctx).credit)
}

func TestStream_KeepsLimits(t *testing.T) {
	budget := newMemoryBudget(0, nil)
	for _, c := range []struct {
		limits fetchLimits
		flag   string
	}{
		{fetchLimits{Series: 199}, "--query.max-fetched-series"},
		{fetchLimits{Chunks: 399}, "--query.max-fetched-chunks"},
		// Samples count while they are held.
		{fetchLimits{Samples: 119}, "--query.max-samples"},
		{fetchLimits{Series: 200, Chunks: 400, Samples: 400 * 120}, ""},
	} {
		ctx, end := withAccount(t, budget, c.limits)
		st := NewQueryable(newManyStore(t, 100, 2), replicaConfig()).streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
		n := drained(st)
		if c.flag == "" {
			require.NoError(t, st.Err())
			require.Equal(t, 100, n)
		} else {
			require.ErrorIs(t, st.Err(), limit.ErrExceeded)
			require.ErrorContains(t, st.Err(), c.flag)
		}
		require.NoError(t, st.Close())
		end()
	}
	// A limit of the request counts results.
	st := NewQueryable(newManyStore(t, 100, 2), replicaConfig()).streams().Select(t.Context(), sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40, Limit: 7}))
	require.Equal(t, 7, drained(st))
	require.NoError(t, st.Err())
	require.NoError(t, st.Close())
}

// TestStream_ReportsMissingStores has a store that fails after its series.
func TestStream_ReportsMissingStores(t *testing.T) {
	good, bad := newManyStore(t, 10, 2), newManyStore(t, 5, 2)
	bad.err = storeapi.ErrUnavailable
	store := fanout.New(func() []storeapi.Store { return []storeapi.Store{good, bad} }, fanout.Config{})
	for _, partial := range []bool{true, false} {
		cfg := replicaConfig()
		cfg.Defaults.PartialResponse = partial
		ctx, report := storeapi.NewReportContext(t.Context())
		st := NewQueryable(store, cfg).streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
		n := drained(st)
		if partial {
			require.NoError(t, st.Err())
			require.Equal(t, 10, n, "%v", st.Warnings())
			require.NotEmpty(t, st.Warnings())
			missing, _ := report.Missing()
			require.NotEmpty(t, missing)
		} else {
			require.ErrorIs(t, st.Err(), storeapi.ErrPartial)
		}
		require.NoError(t, st.Close())
	}
}

// TestStream_EndsWithItsContext cancels while the stream waits for the reader, and
// while the reader waits for the stream.
func TestStream_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		st := NewQueryable(newManyStore(t, 50_000, 2), replicaConfig()).streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
		require.True(t, st.Next())
		synctest.Wait()
		cancel()
		for st.Next() {
		}
		require.ErrorContains(t, st.Err(), "canceled")
		require.NoError(t, st.Close())

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hanging := storetest.NewFake(t, storetest.Data{})
		hanging.Wrap = func(ctx context.Context, _ *storeapi.Request, _ storeapi.SeriesSet) storeapi.SeriesSet {
			<-ctx.Done()
			return storeapi.ErrSet(ctx.Err())
		}
		st = NewQueryable(hanging, replicaConfig()).streams().Select(ctx, sel("http.*", storage.SelectHints{Start: 0, End: 1 << 40}))
		require.False(t, st.Next())
		require.ErrorContains(t, st.Err(), "timed out")
		require.NoError(t, st.Close())
	})
}
