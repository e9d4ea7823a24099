package fanout_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// named is a store with an address.
type named struct {
	storeapi.Store
	name  string
	asked *requests
}

// requests are those that stores received.
type requests struct {
	mtx  sync.Mutex
	list []*storeapi.Request
}

func (q *requests) add(r *storeapi.Request) {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	q.list = append(q.list, r)
}

func (n named) Name() string { return n.name }

func (n named) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	if n.asked != nil {
		n.asked.add(r)
	}
	return n.Store.Select(ctx, r)
}

func fake(t *testing.T, cluster string, names ...string) *storetest.Fake {
	d := storetest.Data{External: labels.FromStrings("cluster", cluster)}
	for _, n := range names {
		d.Series = append(d.Series, storetest.Series{Labels: labels.FromStrings("__name__", n), Samples: storetest.Floats(1000, 10, 5)})
	}
	return storetest.NewFake(t, d)
}

func request(ms ...*labels.Matcher) *storeapi.Request {
	if len(ms) == 0 {
		ms = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")}
	}
	return &storeapi.Request{MinTime: 0, MaxTime: 10_000, Matchers: ms}
}

func of(stores ...storeapi.Store) func() []storeapi.Store {
	return func() []storeapi.Store { return stores }
}

// answer is the content of a set.
type answer struct {
	series   []string
	warnings []string
	err      error
}

func read(t *testing.T, set storeapi.SeriesSet) (a answer) {
	for set.Next() {
		a.series = append(a.series, set.At().Labels.String())
	}
	a.warnings, a.err = set.Warnings().Strings(), set.Err()
	require.NoError(t, set.Close())
	return a
}

// dieAfter is a store whose stream breaks after n series.
func dieAfter(f *storetest.Fake, n int) *storetest.Fake {
	f.Wrap = func(_ context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		return &dying{SeriesSet: set, left: n}
	}
	return f
}

type dying struct {
	storeapi.SeriesSet
	left int
	err  error
}

func (d *dying) Next() bool {
	if d.left--; d.left < 0 {
		d.err = errors.New("disk on fire")
		return false
	}
	return d.SeriesSet.Next()
}

func (d *dying) Err() error { return d.err }

func TestPartialWarn_NamesMissingStore(t *testing.T) {
	good := named{Store: fake(t, "a", "m1", "m2"), name: "good:1"}
	for _, after := range []int{0, 1} {
		bad := named{Store: dieAfter(fake(t, "b", "m1", "m2"), after), name: "bad:2"}
		f := fanout.New(of(good, bad), fanout.Config{})
		a := read(t, f.Select(t.Context(), request()))
		require.NoError(t, a.err)
		require.Len(t, a.series, 2+after)
		require.Equal(t, []string{"receive series from bad:2: disk on fire"}, a.warnings)

		r := request()
		r.Partial = storeapi.PartialAbort
		a = read(t, f.Select(t.Context(), r))
		require.ErrorIs(t, a.err, storeapi.ErrPartial)
		require.ErrorContains(t, a.err, "bad:2")
	}
}

func TestPartialWarn_NamesMissingStoreThroughGRPC(t *testing.T) {
	good := storetest.ThroughGRPC(t, fake(t, "a", "m1", "m2"))
	bad := storetest.ThroughGRPC(t, dieAfter(fake(t, "b", "m1", "m2"), 1))
	f := fanout.New(of(good, bad), fanout.Config{})
	a := read(t, f.Select(t.Context(), request()))
	require.NoError(t, a.err)
	require.Len(t, a.series, 3)
	require.Equal(t, []string{"receive series from test-store:10901: rpc error: code = Internal desc = disk on fire"}, a.warnings)
}

func TestWarnings_OfStoresAreForwarded(t *testing.T) {
	child := fake(t, "a", "m1")
	child.Wrap = func(_ context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		return storeapi.Merge([]storeapi.SeriesSet{set, storeapi.WarnSet(storeapi.Warning{Text: "block X is corrupt"})}, storeapi.Order{})
	}
	f := fanout.New(of(child), fanout.Config{})
	a := read(t, f.Select(t.Context(), request()))
	require.NoError(t, a.err)
	require.Equal(t, []string{"block X is corrupt"}, a.warnings)
	r := request()
	r.Partial = storeapi.PartialAbort
	a = read(t, f.Select(t.Context(), r))
	require.ErrorIs(t, a.err, storeapi.ErrPartial)
	require.ErrorContains(t, a.err, "block X is corrupt")
}

func TestNoStores_AnswerIsEmptyOrAborts(t *testing.T) {
	f := fanout.New(of(), fanout.Config{})
	require.Equal(t, answer{warnings: []string{}}, read(t, f.Select(t.Context(), request())))
	r := request()
	r.Partial = storeapi.PartialAbort
	require.ErrorContains(t, read(t, f.Select(t.Context(), r)).err, "No StoreAPIs available")
	require.Equal(t, int64(math.MinInt64), f.Info().MinTime)
}

func TestPruning_QueriesMatchingStores(t *testing.T) {
	asked := &requests{}
	store := func(cluster, name string, mint, maxt int64) storeapi.Store {
		f := fake(t, cluster, "m")
		f.About.MinTime, f.About.MaxTime = mint, maxt
		return named{Store: f, name: name, asked: asked}
	}
	unknown := fake(t, "c", "m")
	unknown.About.LabelSets = nil
	stores := of(store("a", "a:1", 0, 999), store("b", "b:1", 1000, 2000), named{Store: unknown, name: "c:1", asked: asked})
	eq := func(n, v string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, n, v) }
	for _, c := range []struct {
		what string
		r    *storeapi.Request
		want int
	}{
		{"all times", &storeapi.Request{MinTime: 999, MaxTime: 1000, Matchers: []*labels.Matcher{eq("x", "")}}, 3},
		{"before", &storeapi.Request{MinTime: -5, MaxTime: -1, Matchers: []*labels.Matcher{eq("x", "")}}, 0},
		{"cluster a", &storeapi.Request{MinTime: 0, MaxTime: 5000, Matchers: []*labels.Matcher{eq("cluster", "a"), eq("x", "")}}, 2},
		{"cluster none", &storeapi.Request{MinTime: 0, MaxTime: 5000, Matchers: []*labels.Matcher{eq("cluster", ""), eq("x", "")}}, 1},
		{"address", &storeapi.Request{MinTime: 0, MaxTime: 5000, Matchers: []*labels.Matcher{eq("x", "")}, StoreMatchers: [][]*labels.Matcher{{eq("__address__", "b:1"), eq("other", "y")}, {eq("__address__", "nobody")}}}, 1},
	} {
		asked.list = nil
		a := read(t, fanout.New(stores, fanout.Config{}).Select(t.Context(), c.r))
		require.NoError(t, a.err)
		require.Len(t, asked.list, c.want, c.what)
		for _, r := range asked.list {
			require.Nil(t, r.StoreMatchers)
		}
	}
}

func TestSelectorLabels_AreAnnouncedAndMatched(t *testing.T) {
	f := fanout.New(of(fake(t, "a", "m")), fanout.Config{SelectorLabels: labels.FromStrings("global", "1")})
	require.Equal(t, `{cluster="a", global="1"}`, f.Info().LabelSets[0].String())
	eq := func(n, v string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, n, v) }
	require.Len(t, read(t, f.Select(t.Context(), request(eq("global", "1"), eq("__name__", "m")))).series, 1)
	require.Empty(t, read(t, f.Select(t.Context(), request(eq("global", "2"), eq("__name__", "m")))).series)
	require.Len(t, read(t, f.Select(t.Context(), request(eq("global", "1")))).series, 1)
}

func TestLabelCalls_WarnOrAbort(t *testing.T) {
	bad := fake(t, "b", "m1")
	bad.LabelsErr = errors.New("no index")
	f := fanout.New(of(named{Store: fake(t, "a", "m2"), name: "good:1"}, named{Store: bad, name: "bad:2"}), fanout.Config{})
	names, ws, err := f.LabelNames(t.Context(), request())
	require.NoError(t, err)
	require.Equal(t, []string{"__name__", "cluster"}, names)
	require.Equal(t, []string{"fetch label names from store bad:2: no index"}, ws.Strings())
	values, ws, err := f.LabelValues(t.Context(), "__name__", request())
	require.NoError(t, err)
	require.Equal(t, []string{"m2"}, values)
	require.Equal(t, []string{"fetch label values from store bad:2: no index"}, ws.Strings())
	r := request()
	r.Partial = storeapi.PartialAbort
	_, _, err = f.LabelNames(t.Context(), r)
	require.ErrorContains(t, err, "bad:2")
}

func TestCancelledRequest_HasNoWarning(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := read(t, fanout.New(of(fake(t, "a", "m")), fanout.Config{}).Select(ctx, request()))
	require.ErrorIs(t, a.err, context.Canceled)
	require.Empty(t, a.warnings)
}

// unsorted is a store that swaps two series at a place.
func unsorted(t *testing.T, at, n int) storeapi.Store {
	var series []storeapi.Series
	for i := range n {
		series = append(series, storeapi.Series{Labels: labels.FromStrings("__name__", "m", "cluster", "a", "n", string(rune('A'+i/26))+string(rune('a'+i%26)))})
	}
	series[at], series[at+1] = series[at+1], series[at]
	f := fake(t, "a", "m")
	f.Wrap = func(context.Context, *storeapi.Request, storeapi.SeriesSet) storeapi.SeriesSet {
		return storeapi.NewSliceSet(series)
	}
	return named{Store: f, name: "foreign:1"}
}

// stuck is a store that has nothing until its request ends.
type stuck struct {
	storeapi.SeriesSet
	ctx context.Context
}

func (s stuck) Next() bool { <-s.ctx.Done(); return false }
func (s stuck) Err() error { return s.ctx.Err() }

// The test hangs if the other stores are not stopped.
func TestPartialAbort_StopsOtherStores(t *testing.T) {
	slow := fake(t, "a", "m")
	slow.Wrap = func(ctx context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		return stuck{set, ctx}
	}
	f := fanout.New(of(named{Store: slow, name: "slow:1"}, named{Store: dieAfter(fake(t, "b", "m"), 0), name: "bad:2"}), fanout.Config{})
	r := request()
	r.Partial = storeapi.PartialAbort
	a := read(t, f.Select(t.Context(), r))
	require.ErrorIs(t, a.err, storeapi.ErrPartial)
	require.ErrorContains(t, a.err, "receive series from bad:2: disk on fire")
}

func TestUnsortedStore_IsSortedAlone(t *testing.T) {
	for _, at := range []int{0, 20, 62} {
		reg := prometheus.NewRegistry()
		f := fanout.New(of(unsorted(t, at, 300), fake(t, "a", "m")), fanout.Config{Registerer: reg})
		a := read(t, f.Select(t.Context(), request()))
		require.NoError(t, a.err)
		require.Empty(t, a.warnings)
		require.Len(t, a.series, 301)
		require.IsNonDecreasing(t, a.series[1:])
		require.Equal(t, 1, testutil.CollectAndCount(reg, "hindsight_fanout_unsorted_stores_total"))
	}
}

// A store that does not advertise sorted answers is sorted by the fan-out.
func TestStoreWithoutOrder_IsSorted(t *testing.T) {
	foreign := unsorted(t, 200, 300).(named)
	foreign.Store.(*storetest.Fake).About.SupportsWithoutReplicaLabels = false
	f := fanout.New(of(foreign, fake(t, "a", "m")), fanout.Config{})
	r := request()
	r.WithoutReplicaLabels = []string{"x", "cluster"}
	a := read(t, f.Select(t.Context(), r))
	require.NoError(t, a.err)
	require.Empty(t, a.warnings)
	require.Len(t, a.series, 301)
	require.IsNonDecreasing(t, a.series[1:])
}

func TestStoreThatBreaksOrderLate_IsSortedNextTime(t *testing.T) {
	f := fanout.New(of(unsorted(t, 200, 300)), fanout.Config{})
	a := read(t, f.Select(t.Context(), request()))
	require.NoError(t, a.err)
	require.Len(t, a.series, 201)
	require.Len(t, a.warnings, 1)
	require.Contains(t, a.warnings[0], "receive series from foreign:1")

	a = read(t, f.Select(t.Context(), request()))
	require.Empty(t, a.warnings)
	require.Len(t, a.series, 300)
	require.IsNonDecreasing(t, a.series)
}

func TestFilter_AddsMatchers(t *testing.T) {
	asked := &requests{}
	f := fanout.New(of(named{Store: fake(t, "a", "m"), name: "a", asked: asked}, named{Store: fake(t, "b", "m"), name: "b", asked: asked}), fanout.Config{
		Filter: func(i storeapi.Info) ([]*labels.Matcher, bool) {
			return []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "cluster", "a|c")}, i.LabelSets[0].Get("cluster") == "a"
		},
	})
	require.Len(t, read(t, f.Select(t.Context(), request())).series, 1)
	require.Len(t, asked.list, 1)
	require.Len(t, asked.list[0].Matchers, 2)
}
