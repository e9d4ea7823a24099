package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// text reads a set as a reader that copies; it looks at a series only once it has
// read the warnings, so that a view that was recycled too early is noticed.
func text(set storeapi.SeriesSet) (string, error) {
	var out bytes.Buffer
	for set.Next() {
		writeText(&out, set.At())
	}
	return out.String(), set.Err()
}

// writeText writes the labels and the bytes of the chunks of a series.
func writeText(out *bytes.Buffer, s storeapi.Series) {
	out.WriteString(s.Labels.String())
	for _, c := range s.Chunks {
		out.Write(c.Raw.Bytes)
	}
	out.WriteByte('\n')
}

// eachRead calls f for requests of each kind over a bucket with many series, with the text of
// what they read.
func eachRead(t *testing.T, rng *rand.Rand, s shape, f func(g *Gateway, r *storeapi.Request, want string)) {
	bkt, _ := randomBucket(t, rng, 40)
	s.fill(t, bkt)
	g := newGateway(t, bkt)
	for _, drop := range [][]string{nil, {"replica"}, {"pod"}} {
		for _, m := range []*labels.Matcher{matcher(labels.MatchRegexp, "__name__", ".+"), matcher(labels.MatchRegexp, "n", ".+")} {
			r := &storeapi.Request{MinTime: 0, MaxTime: 6 * hour, WithoutReplicaLabels: drop, Matchers: []*labels.Matcher{m}}
			if len(drop) == 0 {
				r.SortWithout = []string{"cluster", "replica"}
			}
			set := g.Select(t.Context(), r)
			want, err := text(set)
			require.NoError(t, err)
			require.NoError(t, set.Close())
			require.Positive(t, strings.Count(want, "\n"))
			f(g, r, want)
			require.Zero(t, g.budget.Used())
		}
	}
}

// TestSelect_RecyclesOnlyWhatReaderHasSeen reads in parallel, with memory that is
// recycled, and compares with reading without. The build tag hindsight_poison makes it
// strict.
func TestSelect_RecyclesOnlyWhatReaderHasSeen(t *testing.T) {
	s := shape{blocks: 3, metrics: 4, instances: 30, codes: 2, samples: 480}
	eachRead(t, rand.New(rand.NewPCG(11, 12)), s, func(g *Gateway, r *storeapi.Request, want string) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				set := g.Select(t.Context(), r)
				set.(storeapi.RecyclingSet).Recycle()
				got, err := text(set)
				if err != nil || got != want {
					t.Errorf("%s without %v: other bytes with recycled memory (%v)", r.Matchers, r.WithoutReplicaLabels, err)
				}
				if err := set.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// Reading ends in the middle, and the next request gets the memory.
func TestSelect_RecyclesAfterEarlyClose(t *testing.T) {
	bkt := bucket.NewMemory()
	s := shape{blocks: 2, metrics: 4, instances: 60, codes: 2, samples: 480}
	s.fill(t, bkt)
	g := newGateway(t, bkt)
	r := request(s, matcher(labels.MatchRegexp, "__name__", ".+"))
	for n := range 40 {
		set := g.Select(t.Context(), r)
		set.(storeapi.RecyclingSet).Recycle()
		for range n * 7 {
			set.Next()
		}
		require.NoError(t, set.Close())
		require.Zero(t, g.budget.Used())
	}
}

// A request for label sets gets the memory of one for chunks, and has none of them.
func TestSelect_LabelSetsHaveNoChunksOfOthers(t *testing.T) {
	bkt := bucket.NewMemory()
	s := shape{blocks: 2, metrics: 4, instances: 60, codes: 2, samples: 480}
	s.fill(t, bkt)
	g := newGateway(t, bkt)
	r := request(s, matcher(labels.MatchRegexp, "__name__", ".+"))
	bare := *r
	bare.SkipChunks = true
	for range 10 {
		set := g.Select(t.Context(), r)
		set.(storeapi.RecyclingSet).Recycle()
		_, err := text(set)
		require.NoError(t, err)
		require.NoError(t, set.Close())
		set, n := g.Select(t.Context(), &bare), 0
		for set.Next() {
			require.Empty(t, set.At().Chunks)
			n++
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
		require.Equal(t, 480, n)
	}
}

// TestSelect_LendsUntilMemoryIsGivenBack keeps the chunks of some series, and looks at
// them only before it gives their memory back. The build tag hindsight_poison makes it
// strict.
func TestSelect_LendsUntilMemoryIsGivenBack(t *testing.T) {
	s := shape{blocks: 3, metrics: 4, instances: 60, codes: 2, samples: 480}
	eachRead(t, rand.New(rand.NewPCG(13, 14)), s, func(g *Gateway, r *storeapi.Request, want string) {
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				got, err := lentText(g.Select(t.Context(), r), 1+17*n)
				if err != nil || got != want {
					t.Errorf("%s without %v, %d at a time: other bytes with lent memory (%v)", r.Matchers, r.WithoutReplicaLabels, 1+17*n, err)
				}
			})
		}
		wg.Wait()
	})
}

// lentText reads a set to the end, writes the series some at a time, and closes the set.
func lentText(set storeapi.SeriesSet, atATime int) (string, error) {
	lending := set.(storeapi.LendingSet)
	lending.Lend()
	var out bytes.Buffer
	var kept []storeapi.Series
	write := func() {
		for _, s := range kept {
			writeText(&out, s)
		}
		kept = kept[:0]
	}
	for set.Next() {
		at := set.At()
		if len(kept) == atATime {
			write()
			if m := lending.Spent(); m != nil { // at is not among its series
				m.Recycle()
			}
		}
		kept = append(kept, storeapi.Series{Labels: at.Labels, Chunks: slices.Clone(at.Chunks)})
	}
	write()
	if m := lending.Spent(); m != nil {
		m.Recycle()
	}
	return out.String(), errors.Join(set.Err(), set.Close())
}

// Memory that was lent and not given back does not count after the set is closed, and
// its bytes stay.
func TestSelect_LendsBeyondClose(t *testing.T) {
	bkt := bucket.NewMemory()
	s := shape{blocks: 2, metrics: 4, instances: 60, codes: 2, samples: 480}
	s.fill(t, bkt)
	g := newGateway(t, bkt)
	r := request(s, matcher(labels.MatchRegexp, "__name__", ".+"))
	for n := range 40 {
		set := g.Select(t.Context(), r).(storeapi.LendingSet)
		set.Lend()
		var views, copies [][]byte
		for range n * 13 {
			if !set.Next() {
				break
			}
			for _, c := range set.At().Chunks {
				views, copies = append(views, c.Raw.Bytes), append(copies, bytes.Clone(c.Raw.Bytes))
			}
		}
		held := set.Spent()
		require.NoError(t, set.Close())
		other := g.Select(t.Context(), r)
		_, err := text(other)
		require.NoError(t, err)
		require.NoError(t, other.Close())
		require.Equal(t, copies, views)
		if held != nil {
			held.Release()
		}
		require.Zero(t, g.budget.Used())
	}
}
