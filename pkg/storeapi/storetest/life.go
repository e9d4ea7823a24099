package storetest

import (
	"context"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// testOwnership keeps label sets beyond Close, and chunk bytes and aggregates
// until Close, while other requests use whatever memory was given back.
func testOwnership(t *testing.T, newStore NewStore) {
	data := Data{External: labels.FromStrings("cluster", "eu"), Series: randomSeries(rand.New(rand.NewSource(8)), 400)}
	s := newStore(t, data)
	set := s.Select(t.Context(), all(base, base+100_000))
	var kept []labels.Labels
	var texts []string
	var chunks []storeapi.Chunk
	var bytes []string
	for set.Next() {
		at := set.At()
		kept = append(kept, at.Labels)
		texts = append(texts, strings.Clone(at.Labels.String()))
		for _, c := range at.Chunks {
			chunks = append(chunks, c)
			bytes = append(bytes, string(c.Raw.Bytes))
		}
	}
	require.NoError(t, set.Err())
	check(t, s, data, all(base, base+100_000))
	for i, c := range chunks {
		require.Equal(t, bytes[i], string(c.Raw.Bytes))
	}
	require.NoError(t, set.Close())
	check(t, s, data, all(base, base+100_000, ne("a", "")))
	for i, l := range kept {
		require.Equal(t, texts[i], l.String())
	}
}

// testHints checks that what a request says about its use, and the aggregates
// and resolutions that raw data does not have, change nothing; and that
// statistics, which are complete at the end, never shrink below nothing.
func testHints(t *testing.T, newStore NewStore) {
	data := matcherData()
	s := newStore(t, data)
	r := all(base, base+100_000, eq("__name__", "up"))
	r.Hints = &storeapi.Hints{StepMillis: 15_000, Func: "rate", RangeMillis: 60_000, Grouping: []string{"i"}, By: true}
	r.WantStats = true
	r.MaxResolution = 3_600_000
	r.Aggregates = []storeapi.Aggregate{storeapi.AggregateCounter, storeapi.AggregateSum}
	check(t, s, data, r)
	set := s.Select(t.Context(), r)
	n := len(read(t, set, &storeapi.Request{}))
	require.Positive(t, n)
	st := set.Stats()
	for _, v := range []int64{st.BlocksQueried, st.MergedSeries, st.MergedChunks, st.PostingsTouched, st.SeriesTouched, st.ChunksTouched, st.BytesFetched, int64(st.Duration)} {
		require.GreaterOrEqual(t, v, int64(0))
	}
	require.LessOrEqual(t, int64(len(st.QueriedBlocks)), st.BlocksQueried)
	require.NoError(t, set.Close())
	r.Hints = &storeapi.Hints{}
	check(t, s, data, r)
}

// testCancellation stops at many points, in both ways there are: Close and the
// context. Nothing may be left running.
func testCancellation(t *testing.T, newStore NewStore) {
	data := Data{External: labels.FromStrings("cluster", "eu"), Series: randomSeries(rand.New(rand.NewSource(9)), 400)}
	s := newStore(t, data)
	total := len(sets(t.Context(), t, s, all(base, base+100_000)))
	before := goleak.IgnoreCurrent()
	for _, stop := range []int{0, 1, 2, 63, 64, 65, 130, total - 1, total} {
		set := s.Select(t.Context(), all(base, base+100_000))
		for range stop {
			require.True(t, set.Next())
		}
		require.NoError(t, set.Close(), "close after %d", stop)

		ctx, cancel := context.WithCancel(t.Context())
		set = s.Select(ctx, all(base, base+100_000))
		n := 0
		for n < stop && set.Next() {
			n++
		}
		cancel()
		for set.Next() {
			n++ // series that were read ahead may still come
		}
		require.LessOrEqual(t, n, total)
		if n < total {
			require.Error(t, set.Err(), "cancelled after %d", stop)
		}
		require.NoError(t, set.Close())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	set := s.Select(ctx, all(base, base+100_000))
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), context.Canceled)
	require.NoError(t, set.Close())
	_, _, err := s.LabelNames(ctx, all(base, base+100_000, ne("a", "")))
	if err != nil { // an answer from memory needs no context
		require.ErrorIs(t, err, context.Canceled)
	}
	goleak.VerifyNone(t, before)
}

// testRandomSelectors compares with the simplest way to answer.
func testRandomSelectors(t *testing.T, newStore NewStore) {
	rnd := rand.New(rand.NewSource(21))
	for round := range 4 {
		ext := labels.EmptyLabels()
		if round > 0 {
			ext = labels.FromStrings("cluster", "eu", "replica", "x", "zz", "1")
		}
		data := Data{External: ext, Series: randomSeries(rnd, 150)}
		s := newStore(t, data)
		for range 60 {
			r := all(base+int64(rnd.Intn(12_000))-2000, base+int64(rnd.Intn(12_000)), randomMatchers(rnd)...)
			if rnd.Intn(2) == 0 {
				r.WithoutReplicaLabels = []string{"replica"}
			}
			if rnd.Intn(4) == 0 {
				r.Shard = &storeapi.Shard{Index: int64(rnd.Intn(2)), Total: 2, By: rnd.Intn(2) == 0, Labels: []string{"a", "cc"}}
			}
			r.SkipChunks = rnd.Intn(5) == 0
			if r.MinTime <= r.MaxTime && !r.SkipChunks {
				check(t, s, data, r)
			}
		}
	}
}

func randomMatchers(rnd *rand.Rand) []*labels.Matcher {
	ms := []*labels.Matcher{re("__name__", []string{"m0", "m.", ".*", "m0|m1"}[rnd.Intn(4)])}
	names := []string{"A", "_", "a", "b", "cc", "m", "replicas", "z", "none", "cluster"}
	values := []string{"", "0", "1", "0|1", ".*", ".+", "[01]", "eu", "^.$"}
	for range rnd.Intn(3) {
		typ := labels.MatchType(rnd.Intn(4))
		ms = append(ms, labels.MustNewMatcher(typ, names[rnd.Intn(len(names))], values[rnd.Intn(len(values))]))
	}
	return slices.Clip(ms)
}
