package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Run runs the whole acceptance suite. Every implementation of storeapi.Store
// passes it, itself and through gRPC.
func Run(t *testing.T, newStore NewStore) {
	run(t, newStore, testcase{"no matchers left", testNoMatchersLeft})
}

// RunFanout is Run for a fan-out, which selects by external labels alone where
// the contract makes other stores refuse the request.
func RunFanout(t *testing.T, newStore NewStore) {
	run(t, newStore, testcase{"external labels alone", testExternalLabelsAlone})
}

type testcase struct {
	name string
	run  func(*testing.T, NewStore)
}

func run(t *testing.T, newStore NewStore, without testcase) {
	for _, c := range []testcase{
		without,
		{"matchers", testMatchers},
		{"time borders", testTimeBorders},
		{"external labels", testExternalLabels},
		{"order", testOrder},
		{"order without labels", testSortWithout},
		{"limit", testLimit},
		{"shards", testShards},
		{"skip chunks", testSkipChunks},
		{"sample types", testSampleTypes},
		{"hints and statistics", testHints},
		{"label names", testLabelNames},
		{"label values", testLabelValues},
		{"info", testInfo},
		{"ownership", testOwnership},
		{"cancellation", testCancellation},
		{"random selectors", testRandomSelectors},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newStore) })
	}
}

// got is one series of an answer, kept beyond the set.
type got struct {
	labels labels.Labels
	chunks []storeapi.Chunk
}

// read reads the whole answer in the order of r. It checks the order, and that the returned memory
// stays as it was until Close.
func read(t *testing.T, set storeapi.SeriesSet, r *storeapi.Request) []got {
	t.Helper()
	order := r.Order()
	var out []got
	for set.Next() {
		s := set.At()
		if n := len(out); n > 0 && order.Compare(out[n-1].labels, s.Labels) > 0 {
			t.Fatalf("not in order: %s after %s", s.Labels, out[n-1].labels)
		}
		out = append(out, got{labels: s.Labels, chunks: slices.Clone(s.Chunks)})
	}
	require.NoError(t, set.Err())
	return out
}

// check selects and compares with the data: each series that has
// samples in the range is there with exactly these samples; another one may only
// be there when it has samples on both sides of the range.
func check(t *testing.T, s storeapi.Store, data Data, r *storeapi.Request) {
	t.Helper()
	set := s.Select(t.Context(), r)
	defer func() { require.NoError(t, set.Close()) }()
	found := map[string][]storeapi.Chunk{}
	for _, g := range read(t, set, r) {
		if !slices.IsSortedFunc(g.chunks, func(a, b storeapi.Chunk) int { return int(a.MinTime - b.MinTime) }) {
			t.Fatalf("chunks of %s are not in order", g.labels)
		}
		k := g.labels.String()
		found[k] = append(found[k], g.chunks...)
	}
	require.Empty(t, WithoutCollisions(set.Warnings()))
	want := map[string][]Sample{}
	around := map[string]bool{}
	for _, s := range data.Series {
		if !data.matches(s.Labels, r) {
			continue
		}
		k := data.answer(s.Labels, r).String()
		for _, x := range s.Samples {
			if x.T >= r.MinTime && x.T <= r.MaxTime {
				want[k] = append(want[k], x)
			}
		}
		if n := len(s.Samples); n > 0 && s.Samples[0].T <= r.MaxTime && s.Samples[n-1].T >= r.MinTime {
			around[k] = true
		}
	}
	for k, samples := range want {
		cs, ok := found[k]
		if !ok {
			t.Fatalf("%s is missing for %v in [%d, %d]", k, r.Matchers, r.MinTime, r.MaxTime)
		}
		if r.SkipChunks {
			require.Empty(t, cs, k)
			continue
		}
		slices.SortStableFunc(samples, func(a, b Sample) int { return int(a.T - b.T) })
		samples = slices.CompactFunc(samples, func(a, b Sample) bool { return a.T == b.T })
		if want, has := text(samples), text(Decode(t, cs, r.MinTime, r.MaxTime)); !slices.Equal(want, has) {
			t.Fatalf("%s\nwant %q\nhas  %q", k, want, has)
		}
	}
	for k := range found {
		if !around[k] {
			t.Fatalf("%s is not wanted for %v in [%d, %d]", k, r.Matchers, r.MinTime, r.MaxTime)
		}
	}
}

func eq(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

func ne(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchNotEqual, name, value)
}

func re(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchRegexp, name, value)
}

func nre(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchNotRegexp, name, value)
}

// all asks for everything between the times.
func all(mint, maxt int64, ms ...*labels.Matcher) *storeapi.Request {
	if len(ms) == 0 {
		ms = []*labels.Matcher{re("__name__", ".*")}
	}
	return &storeapi.Request{MinTime: mint, MaxTime: maxt, Matchers: ms, Partial: storeapi.PartialAbort}
}

// sets returns the label sets of an answer.
func sets(ctx context.Context, t *testing.T, s storeapi.Store, r *storeapi.Request) (out []string) {
	t.Helper()
	set := s.Select(ctx, r)
	for _, g := range read(t, set, r) {
		out = append(out, g.labels.String())
	}
	require.NoError(t, set.Close())
	return out
}

// WithoutCollisions leaves out the warnings that external labels make one series of
// several, which random data gives rise to.
func WithoutCollisions(ws storeapi.Warnings) (out storeapi.Warnings) {
	for _, w := range ws {
		if !w.IsCollision() {
			out = append(out, w)
		}
	}
	return out
}
