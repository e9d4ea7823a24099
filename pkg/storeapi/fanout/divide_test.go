package fanout_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// thanos is a store that obeys all that a Thanos store does, and nothing else.
type thanos struct {
	storeapi.Store
	component string
	asked     *requests
	// read counts the series that were read of it.
	read *int
}

func (thanos) Name() string { return "thanos:1" }

func (s thanos) Info() storeapi.Info {
	info := s.Store.Info()
	info.Component, info.SupportsSortWithout = s.component, false
	return info
}

func (s thanos) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	if len(r.SortWithout) > 0 {
		return storeapi.ErrSet(fmt.Errorf("asked to sort without %v", r.SortWithout))
	}
	s.asked.add(r)
	return &countingSet{SeriesSet: s.Store.Select(ctx, r), n: s.read}
}

type countingSet struct {
	storeapi.SeriesSet
	n *int
}

func (s *countingSet) Next() bool {
	*s.n++
	return s.SeriesSet.Next()
}

// blocks is a store of one fake for each set of external labels, with random series.
func blocks(t *testing.T, rng *rand.Rand, own []string, external ...labels.Labels) storeapi.Store {
	var stores []storeapi.Store
	names := append([]string{"a", "m", "s", "z"}, own...)
	for _, ext := range external {
		d := storetest.Data{External: ext}
		seen := map[string]bool{}
		for range 40 {
			b := labels.NewBuilder(labels.FromStrings("__name__", fmt.Sprint("m", rng.IntN(3))))
			for _, n := range names {
				if rng.IntN(2) == 0 {
					b.Set(n, fmt.Sprint(rng.IntN(3)))
				}
			}
			if ls := b.Labels(); !seen[ls.String()] {
				seen[ls.String()] = true
				d.Series = append(d.Series, storetest.Series{Labels: ls, Samples: storetest.Floats(1000, 10, 5)})
			}
		}
		stores = append(stores, storetest.NewFake(t, d))
	}
	return fanout.New(of(stores...), fanout.Config{})
}

// The series of a Thanos store come in the order of the request: with the labels of a
// sidecar, of a gateway with blocks of several replicas, without any, with replica labels
// on the series, and with matchers on replica labels.
func TestSortWithout_ThanosStoresAreAskedInParts(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 10))
	sets := map[string][]labels.Labels{
		"sidecar":         {labels.FromStrings("cluster", "x", "replica", "a")},
		"gateway":         {labels.FromStrings("cluster", "x", "replica", "a"), labels.FromStrings("cluster", "x", "replica", "b"), labels.FromStrings("cluster", "y")},
		"ring":            {labels.FromStrings("receive_replica", "r.0", "tenant", "t1"), labels.FromStrings("receive_replica", "r.0", "tenant", "t2")},
		"no labels":       {labels.EmptyLabels()},
		"many replicas":   nil,
		"two conventions": {labels.FromStrings("replica", "a"), labels.FromStrings("receive_replica", "r.0")},
	}
	for i := range 12 {
		sets["many replicas"] = append(sets["many replicas"], labels.FromStrings("replica", fmt.Sprint(i)))
	}
	selectors := [][]*labels.Matcher{
		nil, {labels.MustNewMatcher(labels.MatchEqual, "replica", "a")}, {labels.MustNewMatcher(labels.MatchRegexp, "replica", "a|1|2")},
		{labels.MustNewMatcher(labels.MatchNotEqual, "replica", "a")}, {labels.MustNewMatcher(labels.MatchEqual, "cluster", "y")},
	}
	for name, external := range sets {
		for _, own := range [][]string{nil, {"replica"}, {"receive_replica", "replica"}} {
			store := blocks(t, rng, own, external...)
			for _, selector := range selectors {
				asked, n := &requests{}, 0
				r := request(append([]*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "m.")}, selector...)...)
				r.SortWithout = []string{"replica", "receive_replica"}
				want := read(t, fanout.New(of(store), fanout.Config{}).Select(t.Context(), r))
				got := read(t, fanout.New(of(thanos{store, "store", asked, &n}), fanout.Config{}).Select(t.Context(), r))
				require.Equal(t, want, got, "%s, own %v, %v", name, own, selector)
				require.LessOrEqual(t, len(asked.list), 16)
				if name != "many replicas" && len(selector) == 0 {
					require.Greater(t, len(asked.list), 1, name)
				}
			}
		}
	}
}

// endless never ends, but answers with nothing where its replica is not selected.
type endless struct{ thanos }

func (e endless) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	e.asked.add(r)
	ext := labels.FromStrings("replica", "a")
	if _, ok := storeapi.MatchExternal(ext, r.Matchers); !ok {
		return storeapi.EmptySet()
	}
	if len(r.WithoutReplicaLabels) > 0 {
		ext = labels.EmptyLabels()
	}
	return &countingSet{n: e.read, SeriesSet: &unending{SeriesSet: storeapi.EmptySet(), labels: func(n int) labels.Labels {
		return labels.NewBuilder(ext).Set("__name__", fmt.Sprintf("m%09d", n)).Labels()
	}}}
}

func newEndless(t *testing.T, component string, n *int) endless {
	f := storetest.NewFake(t, storetest.Data{External: labels.FromStrings("replica", "a")})
	f.About.MinTime, f.About.MaxTime = 0, 5000
	return endless{thanos{f, component, &requests{}, n}}
}

// The first series of a sidecar arrive without its last ones: nothing is held but the
// series at which the order is checked.
func TestSortWithout_SidecarIsAStream(t *testing.T) {
	n := 0
	r := request()
	r.SortWithout = []string{"replica"}
	set := fanout.New(of(newEndless(t, "sidecar", &n)), fanout.Config{}).Select(t.Context(), r)
	for i := range 10_000 {
		require.True(t, set.Next())
		require.Equal(t, "a", set.At().Labels.Get("replica"))
		require.LessOrEqual(t, n-i, 100)
	}
	require.NoError(t, set.Close())
}

// fewSeries is an account that allows a number of series.
type fewSeries struct{ most, held int }

func (f *fewSeries) Hold(context.Context, string) storeapi.Holding { return f }

func (f *fewSeries) Add(storeapi.Series) error {
	if f.held++; f.held > f.most {
		return &limit.Error{What: "series", Flag: "--few", Max: int64(f.most), Needed: int64(f.held)}
	}
	return nil
}

func (f *fewSeries) Remove(storeapi.Series) { f.held-- }

// An answer that has to be held counts for the limits of the request while it is read,
// and their error is that of the request, not a warning about the store.
func TestHeldAnswer_MeetsTheLimitsOfTheRequest(t *testing.T) {
	n := 0
	account := &fewSeries{most: 1000}
	r := request()
	r.SortWithout, r.Account = []string{"replica"}, account
	got := read(t, fanout.New(of(newEndless(t, "query", &n)), fanout.Config{}).Select(t.Context(), r))
	require.ErrorIs(t, got.err, limit.ErrExceeded)
	require.ErrorContains(t, got.err, "--few")
	require.Empty(t, got.warnings)
	require.Equal(t, 1001, n)
	require.Equal(t, 1, account.held, "the series that was refused is the account's")
}

// A store that ignores matchers is found by what it sends as the rest, and then its
// answers are sorted here.
func TestSortWithout_StoreThatIgnoresMatchers(t *testing.T) {
	f := fake(t, "a", "m1", "m2")
	f.About.SupportsSortWithout = false
	f.Wrap = func(ctx context.Context, _ *storeapi.Request, _ storeapi.SeriesSet) storeapi.SeriesSet {
		g := fake(t, "a", "m1", "m2")
		return g.Select(ctx, request())
	}
	r := request()
	r.SortWithout = []string{"replica"}
	store := fanout.New(of(named{Store: f, name: "bad:1"}), fanout.Config{})
	got := read(t, store.Select(t.Context(), r))
	require.Empty(t, got.warnings)
	require.Len(t, got.series, 2)
	require.Len(t, read(t, store.Select(t.Context(), r)).series, 2)
}
