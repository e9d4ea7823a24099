package query

import (
	"context"
	"fmt"
	"math"
	"math/rand"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// scraped makes the samples of one replica: hundreds at a regular interval, with holes,
// stale markers and resets, and with histograms in some of them.
func scraped(r *rand.Rand, histograms bool) []storetest.Sample {
	var out []storetest.Sample
	at, v := 1_000_000+r.Int63n(15_000), 0.0
	for i := range 100 + r.Intn(500) {
		at += 15_000 + r.Int63n(10)
		v += float64(r.Intn(9))
		s := storetest.Sample{T: at, V: v}
		switch r.Intn(150) {
		case 0:
			at += r.Int63n(900_000)
		case 1:
			v = 0
		case 2:
			s.V = math.Float64frombits(value.StaleNaN)
		}
		if histograms && i%200 > 120 {
			if r.Intn(2) == 0 {
				s.H = tsdbutil.GenerateTestHistogram(int64(i))
			} else {
				s.FH = tsdbutil.GenerateTestFloatHistogram(int64(i))
			}
		}
		out = append(out, s)
	}
	return out
}

// randomSources makes the sources of one series: replicas in chunks of floats or
// histograms, with chunks of a second block over a part of the time.
func randomSources(t testing.TB, r *rand.Rand) []source {
	out := make([]source, 1+r.Intn(3))
	histograms := r.Intn(4) == 0
	for i := range out {
		enc := chunkenc.EncXOR
		if r.Intn(4) == 0 {
			enc = chunkenc.EncXOR2
		}
		samples := scraped(r, histograms)
		chunks := storetest.Chunks(t, samples, 120, enc)
		if r.Intn(4) == 0 {
			from := r.Intn(len(samples))
			chunks = append(chunks, storetest.Chunks(t, samples[from:from+1+r.Intn(len(samples)-from)], 50, chunkenc.EncXOR)...)
		}
		columns := storetest.Columns(chunkStore{chunks: chunks}).Select(t.Context(), &storeapi.Request{Columns: true})
		require.True(t, columns.Next())
		chunks = columns.At().Chunks
		out[i] = source{id: labels.FromStrings("replica", fmt.Sprint(i)), chunks: chunks, parts: true}
	}
	return out
}

// chunkStore has one series.
type chunkStore struct {
	storeapi.Store
	chunks []storeapi.Chunk
}

func (s chunkStore) Select(context.Context, *storeapi.Request) storeapi.SeriesSet {
	return storeapi.NewSliceSet([]storeapi.Series{{Chunks: s.chunks}})
}

// samplesOf are the samples of an iterator from the time from on, as text.
func samplesOf(t testing.TB, it chunkenc.Iterator, from int64) (out []string) {
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if it.AtT() < from {
			continue
		}
		if typ == chunkenc.ValFloat {
			ts, v := it.At()
			out = append(out, fmt.Sprintf("%d %x", ts, math.Float64bits(v)))
			continue
		}
		ts, h := it.AtFloatHistogram(nil)
		out = append(out, fmt.Sprintf("%d %v %v", ts, h.CounterResetHint, h))
	}
	require.NoError(t, it.Err())
	return out
}

func columnsOf(s *eval.Samples) (out []string) {
	for i := range s.T {
		if s.H != nil && s.H[i] != nil {
			out = append(out, fmt.Sprintf("%d %v %v", s.T[i], s.H[i].CounterResetHint, s.H[i]))
			continue
		}
		out = append(out, fmt.Sprintf("%d %x", s.T[i], math.Float64bits(s.V[i])))
	}
	return out
}

// The columns of a series have the samples of its iterator, also when the series of a
// view are decoded at the same time.
func TestSeries_DecodeEqualsIterator(t *testing.T) {
	total := 0
	for seed := range int64(40) {
		r := rand.New(rand.NewSource(seed))
		v := &view{
			mint: math.MinInt64, maxt: math.MaxInt64, aggrs: []storeapi.Aggregate{storeapi.AggregateRaw},
			dedup: []dedup.Func{dedup.FuncCoverage, dedup.FuncCoverage, dedup.FuncPenalty, dedup.FuncChain}[r.Intn(4)],
			mode:  dedup.Mode(r.Intn(3)),
		}
		switch r.Intn(3) {
		case 0: // an instant query
			v.mint = 1_000_000 + r.Int63n(4_000_000)
			v.maxt = v.mint + 300_000
		case 1:
			v.mint = 1_000_000 + r.Int63n(4_000_000)
			v.maxt = v.mint + r.Int63n(6_000_000)
		}
		all := make([]series, 8)
		want, got := make([][]string, len(all)), make([][]string, len(all))
		for i := range all {
			all[i] = series{view: v, sources: randomSources(t, r)}
			all[i].tidy()
			want[i] = samplesOf(t, all[i].Iterator(nil), v.mint)
			total += len(want[i])
		}
		errs := make([]error, len(all))
		var wg sync.WaitGroup
		for half := range 2 {
			wg.Go(func() {
				var s eval.Samples // it is used again for the next series
				for i := half; i < len(all); i += 2 {
					errs[i] = all[i].decode(&s)
					got[i] = columnsOf(&s)
				}
			})
		}
		wg.Wait()
		for i := range all {
			require.NoError(t, errs[i])
			if !slices.Equal(want[i], got[i]) {
				require.Equal(t, want[i], got[i], "seed %d, series %d, %s, mode %d", seed, i, v.dedup, v.mode)
			}
		}
	}
	require.NotZero(t, total)
}
